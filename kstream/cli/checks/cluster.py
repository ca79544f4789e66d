"""The cluster: whether its brokers can be reached, what they are, what they allow, and their clocks."""

from __future__ import annotations

import re
import socket
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from kstream.cli import human
from kstream.cli.checks import Check, attempt
from kstream.cli.operate import Subject
from kstream.config import Settings
from kstream.config.exposure import exposures
from kstream.config.units import show_seconds
from kstream.errors import KStreamError
from kstream.runtime.cluster.announce import read_clocks
from kstream.runtime.cluster.naming import consumer_group
from kstream.runtime.cluster.sizes import sent
from kstream.runtime.kafka import KafkaClients
from kstream.runtime.kafka.inspection import ClusterInspector

TIMEOUT: Final = 8.0
CONNECT_SECONDS: Final = 2.0
MUCH_SKEW: Final = 1.0
"""Seconds by which clocks may differ before it shows: latencies and lags in time are off by as much."""
TOO_MUCH_SKEW: Final = 60.0
FEW_OFFSET_MINUTES: Final = 24 * 60

_NEEDED: Final = {11: ("JoinGroup", 5), 9: ("OffsetFetch", 7), 22: ("InitProducerId", 1), 28: ("TxnOffsetCommit", 3)}
"""APIs by Kafka's number and the version kstream needs: static members, stable offsets, fencing by the group."""
_MARKS: Final = ((88, "4.1"), (68, "3.7"), (65, "3.0"), (60, "2.8"), (48, "2.6"), (47, "2.4"))
"""Since which version of Kafka there is an API."""
_FETCH, _FETCH_SINCE_4 = 1, 4
"""Kafka 4.0 dropped the first versions of this API."""


def reachable(on: Subject) -> Check:
    """Every bootstrap server: does it accept a connection, and does it speak Kafka with us?"""
    servers = on.servers.split(",")
    bad = [f"{server} {why}" for server in servers if (why := _why_not(server, on)) is not None]
    advice = (
        "start the broker, or mend bootstrap_servers; if it accepts connections: kafka.security.protocol and rights"
    )
    if len(bad) == len(servers):
        return Check("brokers", "error", "; ".join(bad), advice)
    if bad:
        return Check("brokers", "warning", f"only some servers answer: {'; '.join(bad)}", advice)
    return Check("brokers", "ok", f"{', '.join(servers)} {'answers' if len(servers) == 1 else 'answer'}")


def _why_not(server: str, on: Subject) -> str | None:
    if (refused := _refused(*_address(server))) is not None:
        return refused
    admin = KafkaClients(server, on.options).admin()
    try:
        admin.topics(TIMEOUT)
    except KStreamError as error:
        return f"accepts connections but gives no metadata ({' '.join(str(error).split())})"
    finally:
        admin.close()
    return None


def security(settings: Settings) -> Check:
    """What the settings leave open."""
    found = exposures(settings)
    if found:
        return Check(
            "security", "warning", "; ".join(one.text for one in found), "; ".join(one.advice for one in found)
        )
    return Check("security", "ok", "nothing is open that need not be")


def _address(server: str) -> tuple[str, int]:
    host, _, port = re.sub(r"^\w+://", "", server).rpartition(":")
    return host.strip("[]"), int(port)


def _refused(host: str, port: int) -> str | None:
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as error:
        return f"cannot be reached ({error.strerror or error})"
    return None


def cluster(on: Subject, inspector: ClusterInspector) -> Generator[Check, None, Mapping[str, str]]:
    """All that is to be known once a broker answers. Returns the settings of a broker, none without the right to.

    Raises:
        KafkaUnavailable: it does not answer any more.
    """
    found = inspector.cluster()
    lost = [f"{broker} {why}" for broker in found.brokers if (why := _refused(broker.host, broker.port)) is not None]
    text = f"{human.plural(len(found.brokers), 'broker')} of cluster {found.id}"
    if lost:
        advice = "clients go to these addresses: mend advertised.listeners of the brokers, or the network"
        yield Check("advertised brokers", "error", f"{text}; {'; '.join(lost)}", advice)
    else:
        yield Check("advertised brokers", "ok", f"{text}, all can be reached")
    settings: Mapping[str, str] = {}
    try:
        settings = inspector.broker_settings(found.brokers[0].id)
    except KStreamError as error:
        advice = "to look at them needs DescribeConfigs on the cluster; a service does not"
        yield Check("broker settings", "unknown", " ".join(str(error).split()), advice)
    yield broker_version(inspector.api_versions(), settings)
    yield from limits(on.settings, settings)
    return settings


def broker_version(apis: Mapping[int, tuple[int, int]], settings: Mapping[str, str]) -> Check:
    """Kafka has no question for its version; its APIs tell the least it can be."""
    if not apis:
        return Check("broker version", "unknown", "the broker did not tell its APIs")
    lacking = [f"{name} {least}" for key, (name, least) in _NEEDED.items() if apis.get(key, (0, -1))[1] < least]
    since = next((release for key, release in _MARKS if key in apis), None)
    if apis.get(_FETCH, (0, 0))[0] >= _FETCH_SINCE_4 and since != _MARKS[0][1]:
        since = "4.0"
    release = "older than Kafka 2.4" if since is None else f"Kafka {since} or newer"
    how = ", KRaft" if settings.get("process.roles") else ""
    if lacking:
        advice = "kstream needs brokers of Kafka 2.5 or newer: upgrade them"
        return Check("broker version", "error", f"{release}{how}, without {', '.join(lacking)}", advice)
    return Check("broker version", "ok", f"{release}{how}, by its APIs")


def limits(settings: Settings, broker: Mapping[str, str]) -> Iterator[Check]:
    """Settings of the brokers that ours must fit into."""
    if "transaction.max.timeout.ms" in broker and settings.processing_guarantee == "exactly_once":
        most = int(broker["transaction.max.timeout.ms"]) / 1000
        text = (
            f"transaction_timeout {show_seconds(settings.transaction_timeout)}, the brokers allow {show_seconds(most)}"
        )
        fits = settings.transaction_timeout <= most
        advice = "" if fits else "set transaction_timeout lower, or transaction.max.timeout.ms of the brokers higher"
        yield Check("transactions", "ok" if fits else "error", text, advice)
    if {"group.min.session.timeout.ms", "group.max.session.timeout.ms"} <= broker.keys():
        least, most = (int(broker[f"group.{which}.session.timeout.ms"]) / 1000 for which in ("min", "max"))
        allowed = f"{show_seconds(least)} to {show_seconds(most)}"
        text = f"session_timeout {show_seconds(settings.session_timeout)}, the brokers allow {allowed}"
        fits = least <= settings.session_timeout <= most
        yield Check("sessions", "ok" if fits else "error", text, "" if fits else "set session_timeout within that")
    if "message.max.bytes" in broker:
        yield _message_size(settings.kafka, int(broker["message.max.bytes"]))
    if "offsets.retention.minutes" in broker:
        minutes = int(broker["offsets.retention.minutes"])
        text = f"kept {human.span(minutes * 60)} after the last member has left"
        enough = minutes >= FEW_OFFSET_MINUTES
        advice = "an app that is stopped longer starts over: raise offsets.retention.minutes of the brokers"
        yield Check("committed offsets", "ok" if enough else "warning", text, "" if enough else advice)


def _message_size(raw: Mapping[str, str], broker: int) -> Check:
    ours = sent(raw)
    text = f"we send up to {human.size(ours)}, the brokers take {human.size(broker)} (a topic may differ)"
    if ours <= broker:
        return Check("record size", "ok", text)
    advice = "set kafka.message.max.bytes lower, or message.max.bytes of the brokers higher"
    return Check("record size", "warning", text, advice)


def clocks(on: Subject, app: str) -> Check:
    """Brokers do not tell their time. An announcement has both: the sender's inside, the broker's as its timestamp."""
    found = read_clocks(on.clients, app, TIMEOUT)
    if not found:
        return Check("clocks", "unknown", "only running instances tell, and none has announced itself lately")
    here = any(host == socket.gethostname() for host, _ in found.values())
    name, (host, skew) = max(found.items(), key=lambda row: abs(row[1][1]))
    text = (
        f"{human.plural(len(found), 'instance')}, {'one or more' if here else 'none'} on this machine, within"
        f" {human.span(abs(skew))} of the brokers' clocks (the farthest: {name} on {host or '?'})"
    )
    if abs(skew) < MUCH_SKEW:
        return Check("clocks", "ok", text)
    advice = "mend the time service there or at the brokers: latencies, lags in time and ages are wrong by that"
    return Check("clocks", "warning" if abs(skew) < TOO_MUCH_SKEW else "error", text, advice)


def rights(
    on: Subject, inspector: ClusterInspector, broker: Mapping[str, str], app: str, groups: Sequence[str]
) -> Iterator[Check]:
    """On the consumer groups and on transactions. Those on topics are looked at with the topics."""
    if broker.get("authorizer.class.name") == "":
        yield Check("rights", "ok", "the cluster has no authorizer: everybody may do everything")
        return
    for isolation in groups:
        group = consumer_group(app, isolation)
        yield attempt(
            "rights to the group", partial(_group_rights, inspector, group), grant("group", group, ["READ", "DESCRIBE"])
        )
    if on.settings.processing_guarantee == "exactly_once":
        text = f"whether we may begin transactions as {app}-... cannot be asked without beginning one"
        advice = grant("transactional-id", f"{app}- --resource-pattern-type prefixed", ["WRITE", "DESCRIBE"])
        yield Check("rights to transactions", "unknown", text, f"if they were never given: {advice}")


def _group_rights(inspector: ClusterInspector, group: str) -> Check:
    lacking = sorted({"READ", "DESCRIBE"} - inspector.group_rights(group))
    if lacking:
        advice = grant("group", group, lacking)
        return Check("rights to the group", "error", f"this user may not {' and '.join(lacking)} group {group}", advice)
    return Check("rights to the group", "ok", f"we may read and describe {group}")


def grant(kind: str, name: str, operations: Sequence[str]) -> str:
    """The command that gives rights."""
    options = " ".join(f"--operation {operation.title().replace('_', '')}" for operation in operations)
    return f"kafka-acls.sh --add --allow-principal User:... --{kind} {name} {options}"
