"""Writes docs/settings.md from the one list of settings: `python docs/generate_settings.py`.

tests/unit/test_docs.py holds the page to the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import kstream.cli
from kstream.config import Settings, about

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

<!-- Made by docs/generate_settings.py from kstream/config/__init__.py. Change that list, then run the script. -->

Every setting has one name, and five places where it may be given. The first that gives it wins:

1. the command line: an option of its own (`--workers 2`) or `--set NAME=VALUE`;
2. the environment: `KSTREAM_` and the name in capitals, or the same with `_FILE` and the path of a file that holds the
   value (for secrets);
3. `kstream.toml` in the current directory, or the file of `--config`;
4. `App("name", setting=value)`;
5. the default below.

`app_name`, `topic_prefix` and `shared_topics` make names, which are needed when the app is declared: they are taken
from the environment alone ([many tenants](tenants.md)), and given elsewhere they are refused.

Durations are numbers of seconds or text with a unit (`200ms`, `10s`, `5m`, `1h`, `1d`), sizes numbers of bytes or text
(`512MiB`, `1GiB`). A bad value, an unknown name and a bad combination are one line that says what is accepted, and
exit status 2.

| setting | default | accepted | what it is |
|---|---|---|---|
"""

TAIL = """
## librdkafka's own keys

`kafka` holds librdkafka keys for every client, as they are: `--set kafka.sasl.mechanism=PLAIN`, a table `[kafka]` in
`kstream.toml`, `KSTREAM_KAFKA` as JSON, or one variable a key: `KSTREAM_KAFKA__SASL_MECHANISM`. A key may be given for
one kind of client with a prefix: `kafka.consumer.fetch.wait.max.ms`, `kafka.producer.`, `kafka.admin.`. The sources are
merged key by key. Keys that exactly-once or co-partitioning hang on are refused, with the setting to use instead.
Values of `kafka.` keys are shown only where the key is known to hold no secret ([security](security.md#secrets)).

## Settings of changelogs

`changelog` holds Kafka's topic settings for changelogs, used when they are created: `--set
changelog.max.message.bytes=6000000`, a table `[changelog]`, `KSTREAM_CHANGELOG` as JSON, or
`KSTREAM_CHANGELOG__MAX_MESSAGE_BYTES`. A table's own (`app.table(..., changelog={...})`) win over them. What kstream
guarantees of changelogs (`cleanup.policy`, `retention.*`, `delete.retention.ms`, `message.timestamp.*`) is refused.
Changelogs that exist are not altered.

## RocksDB's options

`rocksdb` holds RocksDB's own options by their names, for all databases of a worker: `--set
rocksdb.max_background_jobs=4`, a table `[rocksdb]`, `KSTREAM_ROCKSDB` as JSON, or `KSTREAM_ROCKSDB__BLOCK_SIZE`. They
win over `rocksdb_preset`, which wins over what kstream sets itself. One that does not exist is refused with the nearest
name, and so are those on which exactly-once or the memory budget rests ([state](state.md#backends)).

## What must fit together

- `transaction_timeout` is more than twice `commit_interval`: the broker would abort open transactions otherwise.
- `max_poll_interval` is at least `session_timeout`, `restart_max` at least `restart_initial`.
- `autoscale_down` is less than half of `autoscale_up`: a worker that is taken away would be added again at once.
- `warm` asks for an `announce_interval`: instances that do not know each other cannot choose who follows what.
- A `bootstrap_servers` with a protocol before the address has the protocol of `kafka.security.protocol`.
- `restart_strategy` is one of Flink's: see [restarts.md](restarts.md) for which of `restart_*` belong to which.
- `backend = "file"` asks for `snapshots`.
- The fractions of `memory` are 1 together at most, and what `memory_<share>_min` asks for fits into `memory`.

## A sample kstream.toml

`kstream init` puts this file into a new project:

"""

SAMPLE = Path(kstream.cli.__file__).parent / "template" / "kstream.toml"


def render() -> str:
    """The page."""
    hints = get_type_hints(Settings)
    rows = []
    by_name = {one.name: one for one in fields(Settings)}
    for name, setting in about().items():
        one = by_name[name]
        default = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
        accepted = _kind(hints[one.name], setting.unit)
        rows.append(f"| `{one.name}` | {_default(default, setting.unit)} | {accepted} | {setting.doc} |")
    return HEAD + "\n".join(rows) + "\n" + TAIL + f"```toml\n{SAMPLE.read_text()}```\n"


def _default(value: Any, unit: str) -> str:
    if value is None or value == "" or isinstance(value, Mapping):
        return ""
    if unit == "bytes":
        return f"{value // 2**20} MiB" if value else "0"
    if unit == "seconds" and value and not value % 86_400:
        return f"{value / 86_400:g} d"
    if unit == "seconds":
        return f"{value * 1000:g} ms" if 0 < value < 1 else f"{value:g} s"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _kind(kind: Any, unit: str) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is Mapping:
        return "a table of keys"
    if unit:
        return {"seconds": "a duration", "bytes": "a size"}[unit]
    names = {int: "a whole number", float: "a number", bool: "`true`, `false`", str: "text"}
    for member in (kind, *get_args(kind)):
        if member in names:
            return names[member]
    raise TypeError(f"no word for {kind}")


if __name__ == "__main__":
    PAGE.write_text(render())
