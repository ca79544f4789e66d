"""`kstream doctor`: looks at machine, cluster and topics before a service has to find out by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kstream.cli import human
from kstream.cli.checks import Check, attempt
from kstream.cli.checks import cluster as of_cluster
from kstream.cli.checks.kept import kept
from kstream.cli.checks.machine import machine
from kstream.cli.checks.topics import Topics
from kstream.cli.operate import Subject
from kstream.errors import KStreamError
from kstream.runtime.kafka.inspection import ClusterInspector

_SHOWN: Final = {
    "ok": ("ok", "green"),
    "warning": ("warn", "yellow"),
    "error": ("BAD", "bold red"),
    "unknown": ("?", "yellow"),
}

_NAME_WIDTH: Final = 22


def run(on: Subject, *, as_json: bool) -> int:
    """The command. Returns 1 when anything is red, else 0."""
    if as_json:
        checks = list(examine(on))
        human.write_json(checks)
    else:
        checks = _show(on)
    return 1 if any(check.state == "error" for check in checks) else 0


def examine(on: Subject) -> Iterator[Check]:
    """The findings, each as soon as it is there."""
    tasks = None
    topology = on.app.topology() if on.app is not None else None
    groups = on.settings.group_names or (topology.groups if topology is not None else ())
    reachable = of_cluster.reachable(on)
    yield reachable
    yield of_cluster.security(on.settings)
    if reachable.state != "error":
        inspector = ClusterInspector(on.servers, on.options, of_cluster.TIMEOUT)
        try:
            broker = yield from of_cluster.cluster(on, inspector)
        except KStreamError as error:
            broker = {}
            yield Check("cluster", "error", " ".join(str(error).split()), "see the brokers' logs")
        if topology is not None:
            yield from of_cluster.rights(on, inspector, broker, topology.app, topology.groups)
            topics = Topics(on, topology, inspector)
            yield from topics.checks()
            tasks = topics.tasks
            yield from kept(on, topology)
            yield attempt("clocks", lambda: of_cluster.clocks(on, topology.app), "")
    yield from machine(on.settings, tasks, max(len(groups), 1))


def _show(on: Subject) -> list[Check]:
    out = human.console()
    who = f"{on.app.name} on {on.servers}" if on.app is not None else on.servers
    out.print(Text.assemble((who, "bold"), "\n"))
    checks = []
    for check in examine(on):
        _print(out, check)
        checks.append(check)
    counts = {state: sum(check.state == state for check in checks) for state in _SHOWN}
    bad, doubtful = counts["error"], counts["warning"] + counts["unknown"]
    out.print(
        Text(
            f"\n{human.plural(len(checks), 'check')}: {counts['ok']} green, {doubtful} yellow, {bad} red",
            style="bold red" if bad else "bold",
        )
    )
    return checks


def _print(out: Console, check: Check) -> None:
    mark, style = _SHOWN[check.state]
    text = Text(check.text)
    if check.advice and check.state != "ok":
        text.append(f"\n-> {check.advice}", style="dim")
    row = Table.grid(padding=(0, 1))
    row.add_column(width=4, justify="right")
    row.add_column(width=_NAME_WIDTH)
    row.add_column(overflow="fold")
    row.add_row(Text(mark, style=style), Text(check.name, style="bold"), text)
    out.print(row)
