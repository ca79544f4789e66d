"""Takes members that are gone for good out of their group, so that others have their partitions at once.

librdkafka sends no LeaveGroup for a static member: what it had rests until its session ends
(docs/decisions/0011-leaving-a-group.md). The request exists (KIP-345) and kafka-python's admin client can send it. That
is imported when it is wanted, by the supervisor only: 0.4 s and 255 modules that no worker should pay for.
"""

from __future__ import annotations

import importlib
import logging
import re
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from kstream.errors import KStreamError, LeavingFailed
from kstream.runtime.kafka.bearer import bearer, extensions_of
from kstream.runtime.kafka.entry import mechanism_of
from kstream.runtime.kafka.options import KafkaOptions, logger

RETRY_SECONDS: Final = 0.1

_PASSWORDS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_TLS_KEYS: Final = frozenset(
    {
        "enable.ssl.certificate.verification",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.certificate.pem",
        "ssl.crl.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.key.pem",
    }
)


def preload() -> None:
    """Imports what `remove_members` needs, in a thread: called when there is nothing to hurry for, it makes leaving
    0.4 s quicker. Costs 9 MB."""
    threading.Thread(target=importlib.import_module, args=("kafka.admin",), name="kafka-python", daemon=True).start()


def remove_members(
    servers: str, options: KafkaOptions, group: str, members: Sequence[str], timeout: float
) -> frozenset[str]:
    """Takes static members out of a group. Call it when their consumers are closed: one that still runs would lose
    its partitions, join again, and do its uncommitted work twice over (no output of it counts twice).

    Args:
        options: how librdkafka's clients are configured.
        members: their `group.instance.id`. Those that the group does not know are passed over: they are gone.
        timeout: seconds that this takes at most.

    Returns those that were members until now.

    Raises:
        LeavingFailed: the brokers refuse or do not answer, or the options have what only librdkafka understands.
    """
    if not members:
        return frozenset()
    deadline = time.monotonic() + timeout
    config = connection(options.admin(servers))
    _words.first = ""
    outcome: list[frozenset[str] | Exception] = []

    def remove() -> None:
        try:
            outcome.append(_remove(config, group, members, deadline))
        except Exception as error:  # told to the caller below
            outcome.append(error)

    # A name server that does not answer, say, is waited for without a limit of kafka-python's: so it gets a thread that
    # may be left behind.
    thread = threading.Thread(target=remove, name="leaving the group", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
    if not outcome:
        raise _failed(f"no answer from {servers} within {timeout:g} s{_words.first}")
    if isinstance(outcome[0], Exception):
        raise _failed(_text(outcome[0]) + _words.first) from outcome[0]
    return outcome[0]


def _remove(config: dict[str, Any], group: str, members: Sequence[str], deadline: float) -> frozenset[str]:
    """Asks until it is done. After a passing failure (the coordinator moves, a broker restarts) with a new client:
    kafka-python keeps a coordinator once it has found one."""
    from kafka.admin import KafkaAdminClient, MemberToRemove
    from kafka.errors import (
        KafkaConnectionError,
        NoError,
        RebalanceInProgressError,
        RetriableError,
        UnknownMemberIdError,
    )

    wanted = [MemberToRemove(group_instance_id=member, reason="the instance stopped") for member in members]
    while True:
        left = max(1, round((deadline - time.monotonic()) * 1000))
        try:
            client = KafkaAdminClient(**config, bootstrap_timeout_ms=left, request_timeout_ms=left)
            try:
                answers = client.remove_group_members(group, wanted)
            finally:
                client.close()
        except (RetriableError, KafkaConnectionError, RebalanceInProgressError):
            if time.monotonic() + RETRY_SECONDS > deadline:
                raise
            time.sleep(RETRY_SECONDS)
            continue
        refused = {member: error for member, error in answers.items() if error not in (NoError, UnknownMemberIdError)}
        if refused:
            raise _failed(", ".join(f"{member}: {error.__name__}" for member, error in refused.items()))
        return frozenset(member for member, error in answers.items() if error is NoError)


_VAGUE: Final = "socket disconnected"


class _Words(logging.Handler):
    """kafka-python logs each step at INFO and what it gets over at ERROR: for kstream all of it is for debugging. The
    first error that says more than "disconnected" is kept: it says why there is no answer in the end."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)  # at DEBUG it tells passwords, whoever set that level
        self.first = ""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno >= logging.ERROR and (not self.first or _VAGUE in self.first):
            self.first = "; " + re.sub(r"^<.*>: ", "", text)
        logger.debug("kafka-python: %s", text)


_words = _Words()
_theirs = logging.getLogger("kafka")
_theirs.addHandler(_words)
_theirs.propagate = False
_theirs.setLevel(logging.INFO)  # at DEBUG it logs its configuration, passwords too: never that


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, LeavingFailed) else f"{type(error).__name__}: {error}"


def _failed(reason: str) -> LeavingFailed:
    return LeavingFailed(f"the group was not left, so the partitions rest until the session ends ({reason})")


# ---- librdkafka's settings as kafka-python's


def connection(config: Mapping[str, Any]) -> dict[str, Any]:
    """What kafka-python needs to connect as librdkafka does with this configuration.

    Raises:
        LeavingFailed: something of it has no equivalent.
    """
    security = str(config.get("security.protocol", "plaintext")).upper()
    servers = [server.rpartition("//")[2] for server in str(config["bootstrap.servers"]).split(",")]
    found: dict[str, Any] = {
        "bootstrap_servers": servers,
        "client_id": config["client.id"],
        "security_protocol": security,
        "reconnect_backoff_max_ms": 1000,
    }
    if security.startswith("SASL"):
        found |= _login(config)
    if security.endswith("SSL"):
        found["ssl_context"] = tls_context(config)
    return found


def _login(config: Mapping[str, Any]) -> dict[str, Any]:
    mechanism = mechanism_of(config)
    if mechanism == "OAUTHBEARER":
        try:
            token, extensions = bearer(config), extensions_of(config)
        except KStreamError as error:
            raise _failed(str(error)) from error
        return {"sasl_mechanism": mechanism, "sasl_oauth_token_provider": _provider(token, extensions)}
    if mechanism not in _PASSWORDS:
        raise _failed(f"sasl.mechanism {mechanism} cannot be used here, only {', '.join(_PASSWORDS)} and OAUTHBEARER")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": config.get("sasl.username"),
        "sasl_plain_password": config.get("sasl.password"),
    }


def _provider(token: Callable[[], str], more: Mapping[str, str]) -> object:
    from kafka.net.sasl.oauth import AbstractTokenProvider

    class Provider(AbstractTokenProvider):  # type: ignore[misc]  # kafka-python has no types
        def token(self) -> str:
            return token()

        def extensions(self) -> Mapping[str, str]:
            return more

    return Provider()


def tls_context(config: Mapping[str, Any]) -> ssl.SSLContext:
    """Raises LeavingFailed: a key has no equivalent, a file cannot be read."""
    foreign = sorted(key for key in config if key.startswith("ssl.") and key not in _TLS_KEYS)
    if foreign:
        raise _failed(f"{', '.join(foreign)} cannot be used here: use PEM (ssl.certificate.location, ssl.key.location)")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if str(config.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if str(config.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        _trust(context, config)
        _own(context, config)
    except (OSError, ssl.SSLError) as error:
        raise _failed(f"TLS: {error}") from error
    return context


def _own(context: ssl.SSLContext, config: Mapping[str, Any]) -> None:
    """The client's certificate and key, each from a file or from the settings."""
    certificate, key = config.get("ssl.certificate.location"), config.get("ssl.key.location")
    texts = config.get("ssl.certificate.pem"), config.get("ssl.key.pem")
    with ExitStack() as files:
        # Python reads them from files only: there is one for a moment, which nobody else may read
        certificate, key = (
            at if text is None else files.enter_context(_file(text))
            for at, text in zip((certificate, key), texts, strict=True)
        )
        if certificate:
            context.load_cert_chain(certificate, key, config.get("ssl.key.password") or "")


@contextmanager
def _file(text: str) -> Iterator[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(text)
        file.flush()
        yield file.name


def _trust(context: ssl.SSLContext, config: Mapping[str, Any]) -> None:
    location, text = config.get("ssl.ca.location"), config.get("ssl.ca.pem")
    load: Callable[..., None] = context.load_verify_locations
    if text:
        load(cadata=text)
    if location and location != "probe":
        load(location)
    elif not text:
        context.load_default_certs()
    if revoked := config.get("ssl.crl.location"):
        load(revoked)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
