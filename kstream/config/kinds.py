"""What a setting may hold: a parser from what people write, with a line that says what is accepted."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from typing import Any, Final

from kstream.config import units

Parser = Callable[[Any], Any]
"""Returns the setting's value; raises ValueError saying "is not ..." (what is accepted)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known about one setting besides its name, type and default.

    Attributes:
        doc: one sentence for the reference page and `--help`.
        parse: checks a value and makes it what is stored; what it returned it accepts again.
        unit: of the stored number: "seconds", "bytes", or "".
        secret: never shown. Of `kafka`, single keys are secret: see `is_secret`.
        table: it holds keys of Kafka's, or options of RocksDB's, each of which may be given by itself: `kafka.<key>`.
    """

    doc: str
    parse: Parser
    unit: str = ""
    secret: bool = False
    table: bool = False


SECRET: Final = "***"
_SECRET_KEY: Final = re.compile(
    r"password|passphrase|secret|token(?!\.endpoint)|credential|jaas|key\.pem|private|user\.info|oauthbearer\.config",
    re.IGNORECASE,
)

# What these hold is decided by the engine: anything else breaks exactly-once or co-partitioning.
OURS: Final = {
    "bootstrap.servers": "set bootstrap_servers",
    "group.id": "it is the app's name",
    "group.instance.id": "set instance",
    "transactional.id": "set instance",
    "session.timeout.ms": "set session_timeout",
    "max.poll.interval.ms": "set max_poll_interval",
    "transaction.timeout.ms": "set transaction_timeout",
    "auto.offset.reset": "set auto_offset_reset",
    "enable.auto.commit": "kstream commits offsets itself",
    "enable.auto.offset.store": "kstream commits offsets itself",
    "isolation.level": "kstream reads committed records",
    "enable.idempotence": "set processing_guarantee",
    "enable.partition.eof": "kstream needs it",
    "acks": "kstream waits for all replicas",
    "request.required.acks": "kstream waits for all replicas",
    "metadata.broker.list": "set bootstrap_servers",
    "group.protocol": "kstream uses the classic protocol",
    "partition.assignment.strategy": "kstream keeps co-partitioned topics together",
    "partitioner": "kstream partitions by murmur2, as Java clients do",
}

GUARANTEED: Final = {
    "cleanup.policy": "changelogs are compacted",
    "retention.ms": "nothing is deleted from changelogs by age",
    "retention.bytes": "nothing is deleted from changelogs by size",
    "delete.retention.ms": "tombstones stay for as long as local state may be behind",
    "message.timestamp.type": "changelogs keep their producer's timestamps",
    "message.timestamp.after.max.ms": "changelogs take any timestamp",
    "message.timestamp.before.max.ms": "changelogs take any timestamp",
}
"""Settings of changelogs that nobody else decides: state would be lost."""


GROUP_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
"""An isolation group's: fit for consumer groups, folders and Kubernetes' names."""

CLIENTS: Final = ("consumer", "producer", "admin")

PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
"""What Kafka's clients speak."""


def client_key(name: str) -> str:
    """librdkafka's own name of a key that may be for one kind of client (`consumer.fetch.wait.max.ms`)."""
    kind, _, rest = name.partition(".")
    return rest if kind in CLIENTS else name


def is_secret(key: str) -> bool:
    """Whether a librdkafka key, or a setting's name, looks like one that holds a secret."""
    return _SECRET_KEY.search(key) is not None


# Shown: what is known to hold no secret. A slip in a name, or a key that librdkafka will have one day, is hidden.
_HARMLESS: Final = re.compile(
    r"security\.protocol|sasl\.mechanisms?|sasl\.username|sasl\.kerberos\.(service\.name|principal|keytab)"
    r"|sasl\.oauthbearer\.(method|scope|token\.endpoint\.url)|enable\.sasl\.oauthbearer\.unsecure\.jwt"
    r"|ssl\.(ca|certificate|key|keystore|crl)\.location|ssl\.endpoint\.identification\.algorithm"
    r"|ssl\.(cipher\.suites|curves\.list|sigalgs\.list|providers)|enable\.ssl\.certificate\.verification"
    r"|client\.(id|rack|dns\.lookup)|debug|log_level|log\.(queue|thread\.name|connection\.close)|api\.version\.request"
    r"|broker\.(address\.family|address\.ttl|version\.fallback)|compression\.(type|codec|level)|check\.crcs"
    r"|socket\.(timeout\.ms|send\.buffer\.bytes|receive\.buffer\.bytes|keepalive\.enable|nagle\.disable|max\.fails)"
    r"|socket\.connection\.setup\.timeout\.ms|connections\.max\.idle\.ms|reconnect\.backoff(\.max)?\.ms"
    r"|retry\.backoff(\.max)?\.ms|retries|message\.send\.max\.retries|(request|message|delivery)\.timeout\.ms"
    r"|linger\.ms|queue\.buffering\.(max\.messages|max\.kbytes|max\.ms|backpressure\.threshold)"
    r"|batch\.(size|num\.messages)|message\.(max|copy\.max)\.bytes|receive\.message\.max\.bytes"
    r"|max\.in\.flight(\.requests\.per\.connection)?|sticky\.partitioning\.linger\.ms"
    r"|fetch\.(wait\.max\.ms|min\.bytes|max\.bytes|message\.max\.bytes|error\.backoff\.ms|queue\.backoff\.ms)"
    r"|max\.partition\.fetch\.bytes|queued\.(min\.messages|max\.messages\.kbytes)|heartbeat\.interval\.ms"
    r"|coordinator\.query\.interval\.ms|allow\.auto\.create\.topics|statistics\.interval\.ms"
    r"|metadata\.(max\.age\.ms|recovery\.strategy)|topic\.metadata\.(refresh\.interval\.ms|propagation\.max\.ms)"
)


def may_be_secret(key: str) -> bool:
    """Whether the value of a librdkafka key is hidden: all but those known to be harmless."""
    return _HARMLESS.fullmatch(client_key(key)) is None


def text(pattern: str = r".+", accepted: str = "text") -> Parser:
    def parse(value: Any) -> str:
        if isinstance(value, PathLike):
            value = fspath(value)
        if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
            raise ValueError(f"is not {accepted}")
        return value

    return parse


def path(value: Any) -> str:
    """A path; `~` and `~user` at its beginning are that home."""
    return at_home(str(text(accepted="a path")(value)))


def at_home(value: str) -> str:
    """The path with the home that it begins with; any other as it is."""
    if not value.startswith("~"):
        return value
    found = os.path.expanduser(value)
    if found == value:
        raise ValueError(
            f"begins with {value.split('/', maxsplit=1)[0]}, and there is no such home: write ./~... if that is meant"
        )
    return found


def servers(value: Any) -> str:
    """Brokers as "host:port,host:port"; a list is joined."""
    parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else []
    parts = [part.strip() if isinstance(part, str) else "" for part in parts]
    if not parts or any(
        (match := re.fullmatch(r"(\w+://)?(\[[0-9a-fA-F:.]+\]|[^\s:/,]+):(\d{1,5})", part)) is None
        or not 1 <= int(match[3]) <= 65535
        for part in parts
    ):
        raise ValueError('is not a list of brokers: "host:port", or several with commas')
    for part in parts:
        protocol, slashes, address = part.rpartition("://")
        if slashes and protocol.upper() not in PROTOCOLS:
            raise ValueError(
                f"holds a URL, and {protocol} is not a protocol of Kafka's clients: write {address}; where it "
                f"is not PLAINTEXT, set kafka.security.protocol ({', '.join(PROTOCOLS[1:])})"
            )
    return ",".join(parts)


def foreign_protocol(servers: str, protocol: str) -> tuple[str, str] | None:
    """The first broker that is written with another protocol than the clients speak, and which. They pass it over."""
    for part in servers.split(","):
        written, slashes, _ = part.rpartition("://")
        if slashes and written.upper() != protocol.upper():
            return part, written.upper()
    return None


DEEPEST_JSON = 900
"""Python's own limit of recursion is near 1000, and what is on the stack of a worker is in it, too."""
SHORTEST_NUMBER, LONGEST_NUMBER = 24, 4300
"""A float has 24 characters; longer integers than of 4300 Python does not read (sys.set_int_max_str_digits)."""


def integer(least: int, also: int | None = None, most: int | None = None) -> Parser:
    accepted = f"a whole number of {least} or more" + ("" if also is None else f", or {also}")
    if most is not None:
        accepted = f"a whole number from {least} to {most}"

    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*-?\d[\d_]*\s*", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool) or (value < least and value != also):
            raise ValueError(f"is not {accepted}")
        if most is not None and value > most:
            raise ValueError(f"is not {accepted}")
        return value

    return parse


def workers(value: Any) -> int | str:
    """A number of processes, or "1..4": from one to four, as the load asks."""
    accepted = 'a whole number of 0 or more, or MIN..MAX such as "1..4"'
    if not isinstance(value, str) or ".." not in value:
        try:
            return integer(0)(value)  # type: ignore[no-any-return]
        except ValueError:
            raise ValueError(f"is not {accepted}") from None
    match = re.fullmatch(r"\s*(\d{1,4})\s*\.\.\s*(\d{1,4})\s*", value)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ValueError(f"is not {accepted}, of which MIN is 1 or more and MAX not less than MIN")
    return f"{int(match[1])}..{int(match[2])}"


def names(pattern: str, accepted: str) -> Parser:
    """Names with commas between them; a list is joined."""

    def parse(value: Any) -> str:
        parts = value.split(",") if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else [0]
        parts = [part.strip() if isinstance(part, str) else "" for part in parts]
        if parts == [""]:
            return ""
        if any(re.fullmatch(pattern, part) is None for part in parts):
            raise ValueError(f"is not {accepted}")
        return ",".join(parts)

    return parse


def number(least: float, most: float = math.inf) -> Parser:
    accepted = f"a number of {least:g} or more" if most == math.inf else f"a number from {least:g} to {most:g}"

    def parse(value: Any) -> float:
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not least <= found <= most or math.isinf(found):
            raise ValueError(f"is not {accepted}")
        return found

    return parse


def duration(least: float = 0.0) -> Parser:
    def parse(value: Any) -> float:
        found = units.seconds(value)
        if not found >= least or math.isinf(found):
            raise ValueError(f"is not {units.DURATION}, {least:g} seconds at least")
        return found

    return parse


def size(least: int = 0) -> Parser:
    def parse(value: Any) -> int:
        found = units.size(value)
        if found < least:
            raise ValueError(f"is not {units.SIZE}, {least} bytes at least")
        return found

    return parse


def flag(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if found is None:
        raise ValueError("is neither true nor false")
    return found


def choice(*options: str) -> Parser:
    folded = {option.lower(): option for option in options}

    def parse(value: Any) -> str:
        found = folded.get(value.strip().lower()) if isinstance(value, str) else None
        if found is None:
            raise ValueError(f"is not one of {', '.join(options)}")
        return found

    return parse


def optional(inner: Parser, *words: str) -> Parser:
    """None, or one of `words` for None, or what `inner` accepts."""

    def parse(value: Any) -> Any:
        return None if value is None or (isinstance(value, str) and value in words) else inner(value)

    return parse


def client_keys(value: Any) -> dict[str, str]:
    """librdkafka's own keys."""
    flattened = flat(value, 'a table of librdkafka keys, such as {"sasl.mechanism": "PLAIN"}')
    for key in flattened:
        if client_key(key) in OURS:
            raise ValueError(f"may not hold {key}: {OURS[client_key(key)]}")
    return flattened


def changelog_keys(value: Any) -> dict[str, str]:
    """Kafka's settings of topics, for changelogs."""
    flattened = flat(value, 'a table of Kafka\'s topic settings, such as {"max.message.bytes": "6000000"}')
    for key in flattened:
        if key in GUARANTEED:
            raise ValueError(f"may not hold {key}: {GUARANTEED[key]}")
    return flattened


def flat(value: Any, accepted: str) -> dict[str, str]:
    """Keys and their values as text. Tables inside are dotted keys, as TOML reads `sasl.password = "..."`; text is
    JSON."""
    if isinstance(value, str):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if not isinstance(value, Mapping):
        raise ValueError(f"is not {accepted}")
    flattened: dict[str, str] = {}
    for key, item in value.items():
        if isinstance(item, Mapping):
            flattened.update({f"{key}.{inner}": one for inner, one in flat(item, accepted).items()})
        elif isinstance(item, bool):
            flattened[str(key)] = str(item).lower()
        elif isinstance(item, (str, int, float)):
            flattened[str(key)] = str(item)
        else:
            raise ValueError(f"has a value for {key} that is neither text, number nor true or false")
    return flattened
