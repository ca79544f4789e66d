"""`kstream plan`: how many partitions, workers and instances a rate takes, from what the app costs on sample data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.cli.planning import measure as measuring
from kstream.cli.planning.answer import answer_of
from kstream.cli.planning.arithmetic import Target
from kstream.cli.planning.sample import from_file, from_topics
from kstream.cli.planning.tables import screen
from kstream.cli.planning.values import helm_values
from kstream.config import units
from kstream.errors import ConfigError
from kstream.topology import Topology

_NUMBER: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]?)(?:/s)?")
_FACTORS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}

Amount = TypeVar("Amount", int, float)

FORMATS: Final = ("text", "json", "helm-values")


def run(on: Subject, target: str, records: Path | None, wanted: Target, *, seconds: float, form: str) -> int:
    """The command. Returns 0.

    Args:
        target: `module:attribute` of the app. records: JSON lines; None reads the app's own topics.
        form: one of `FORMATS`.
    """
    assert on.app is not None
    topology = on.app.topology()
    check_keys(wanted.keys, topology)
    sample = from_topics(topology, on) if records is None else from_file(records, topology, on.app.names)
    wanted = msgspec.structs.replace(
        wanted,
        worker_memory=on.settings.memory,
        commit_interval=min(on.settings.commit_interval, topology.within),
    )
    with _bar(human.lines(stderr=True)) as progress:
        cost = measuring.measure(on.app, target, on.settings, sample, seconds, progress)
    answer = answer_of(topology, cost, wanted, sample)
    if form == "json":
        human.write_json(answer)
    elif form == "helm-values":
        human.write("\n".join(helm_values(answer, target, topology.groups)))
    else:
        human.console().print(screen(answer))
    return 0


@contextmanager
def _bar(console: Console) -> Iterator[measuring.Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda what, share: progress.update(task, description=what, completed=share)


# ---- what is given


def rate_of(text: str) -> float:
    """Records a second: 50000, 50k, 1.5M, 100M/s.

    Raises:
        ConfigError.
    """
    match = _NUMBER.fullmatch(text.strip())
    factor = _FACTORS.get(match[2].lower()) if match else None
    if match is None or factor is None or float(match[1]) * factor < 1:
        raise ConfigError(f"--rate {text}: give records a second, 1 or more, such as 5000, 50k, 1.5M or 100M")
    return float(match[1]) * factor


def form_of(given: str | None, as_json: bool) -> str:
    """What --format and --json say together. Raises ConfigError."""
    form = given or ("json" if as_json else "text")
    if form not in FORMATS:
        raise ConfigError(f"--format {form}: there is {', '.join(FORMATS)}")
    if as_json and form != "json":
        raise ConfigError(f"--json and --format {form}: give one of them")
    return form


def target_of(
    rate: str,
    cores: int | None,
    memory: str | None,
    partitions: int | None,
    keys: Sequence[str],
    *,
    instances: int = 2,
    recover_within: str | None = None,
) -> Target:
    """What the options say; without `cores`, instances are as large as this machine.

    Raises:
        ConfigError.
    """
    size = None if memory is None else _given("--memory", memory, units.size)
    within = None if recover_within is None else _given("--recover-within", recover_within, units.seconds)
    if within is not None and within < 1:
        raise ConfigError(f"--recover-within {recover_within}: 1 second at least")
    return Target(
        rate_of(rate), cores or os.cpu_count() or 1, size, partitions, keys_of(keys), instances=instances,
        recover_within=within,
    )  # fmt: skip


def keys_of(given: Sequence[str]) -> dict[str, int]:
    """`N` for all stores ("") or `STORE=N`, numbers as rates are written.

    Raises:
        ConfigError.
    """
    found = {}
    for one in given:
        store, equals, number = one.rpartition("=")
        match = _NUMBER.fullmatch(number.strip())
        factor = _FACTORS.get(match[2].lower()) if match else None
        if match is None or factor is None or number.endswith("/s") or (equals and not store):
            raise ConfigError(f"--keys {one}: a number of entries for all stores, such as 10M, or STORE=N for one")
        found[store] = round(float(match[1]) * factor)
    return found


def check_keys(keys: dict[str, int], topology: Topology) -> None:
    """Raises ConfigError when a store is named that the app does not have."""
    stores = [store.name for part in topology.parts for store in part.stores]
    for name in keys:
        if name and name not in stores:
            raise ConfigError(f"--keys {name}=...: the app has no store {name!r}, but {', '.join(stores) or 'none'}")


def _given(option: str, text: str, read: Callable[[str], Amount]) -> Amount:
    """What an option says.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return read(text)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: {error}") from None
