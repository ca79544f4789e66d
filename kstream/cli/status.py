"""`kstream status`: the instances of an app, live in the terminal, as they announce themselves through Kafka."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from kstream.cli import human
from kstream.cli.operate import Subject
from kstream.cli.page import ask
from kstream.errors import UsageError
from kstream.escape import escaped
from kstream.observe.status import InstanceStatus, ScalingStatus, TableStatus, TaskStatus
from kstream.runtime.cluster.announce import Listener, topic_of
from kstream.runtime.cluster.directory import Directory
from kstream.types import Clients

TIMEOUT: Final = 15.0
REFRESH_SECONDS: Final = 1.0
STYLES: Final = {
    "running": "green",
    "starting": "yellow",
    "restoring": "yellow",
    "paused": "yellow",
    "suspended": "yellow",
    "restarting": "red",
    "degraded": "red",
    "failed": "red",
    "silent": "red",
    "stopping": "dim",
    "stopped": "dim",
}
HEALTHY: Final = frozenset({"running", "stopping"})

Look = Callable[[float], list[InstanceStatus]]
"""The instances as of now, after waiting for news for that many seconds at most."""


def status(on: Subject, name: str | None, *, url: str | None, token: str | None, once: bool, as_json: bool) -> int:
    """The command. The app is `on.app`, or the one of this `name`; or whatever runs at `url`.

    Raises:
        UsageError: it is not said which app, or nothing of it is to be seen.
    """
    if url is not None:
        return run(
            url, through_page(url, token or on.settings.web_token, on.settings.web_tls_ca), once=once, as_json=as_json
        )
    if name is None and on.app is not None:
        name = on.app.name
    if name is None:
        raise UsageError("which app? give MODULE:ATTRIBUTE, or --app NAME, or --url URL of an instance")
    with through_kafka(on.clients, name, on.servers) as look:
        return run(f"{name} on {on.servers}", look, once=once, as_json=as_json)


def run(title: str, look: Look, *, once: bool, as_json: bool) -> int:
    """Shows the instances until Ctrl-C, or `once`. Returns 0 when there are some and all are ready, else 1."""
    instances = look(0.0)
    if as_json:
        human.write_json(instances)
    elif once:
        human.console().print(screen(title, instances, time.time()))
    else:
        watch(title, look, instances)
        return 0
    return 0 if instances and all(one.ready for one in instances) else 1


def watch(title: str, look: Look, instances: Sequence[InstanceStatus]) -> None:
    """Until Ctrl-C, which is how to leave it."""
    out = human.console()

    def drawn(instances: Sequence[InstanceStatus]) -> RenderableType:
        return screen(title, instances, time.time(), height=out.height)

    with Live(drawn(instances), console=out, auto_refresh=False, screen=out.is_terminal) as live:
        try:
            while True:
                due = time.monotonic() + REFRESH_SECONDS
                while (left := due - time.monotonic()) > 0:
                    instances = look(left)
                live.update(drawn(instances), refresh=True)
        except KeyboardInterrupt:
            return


# ---- where it comes from


@contextmanager
def through_kafka(clients: Clients, app: str, servers: str) -> Iterator[Look]:
    """The announcements.

    Raises:
        UsageError: no instance of such an app ever announced itself there.
        KafkaUnavailable: no broker answers.
    """
    directory = Directory()
    with ExitStack() as stack:
        admin = clients.admin()
        stack.callback(admin.close)
        topics = admin.topics(TIMEOUT)
        if topic_of(app) not in topics:
            raise UsageError(_nobody(app, servers, list(topics)))
        listener = Listener(clients, admin, app, directory)
        stack.callback(listener.close)
        listener.to_end(TIMEOUT)

        def look(seconds: float) -> list[InstanceStatus]:
            listener.take(seconds)
            return directory.instances(time.monotonic(), time.time())

        yield look


def _nobody(app: str, servers: str, topics: Sequence[str]) -> str:
    others = sorted(name.removesuffix("-instances") for name in topics if name.endswith("-instances"))
    known = f"; apps that did: {', '.join(others[:8])}" if others else ""
    return (
        f"no instance of {app!r} ever announced itself at {servers}: start one (announce_interval must not be 0)"
        f" or mend the name{known}"
    )


def through_page(url: str, token: str | None, ca: str | None = None) -> Look:
    """What one instance answers at /api/instances; asked once a second or less often.

    The result raises UsageError when it cannot be reached or refuses.
    """

    def look(seconds: float) -> list[InstanceStatus]:
        time.sleep(seconds)
        return ask(url, "/api/instances", token, list[InstanceStatus], ca=ca)

    return look


# ---- how it looks


def screen(title: str, instances: Sequence[InstanceStatus], now: float, height: int | None = None) -> RenderableType:
    """All of it. With a `height` (lines), tasks that are in order are left out as far as it needs."""
    heard = [one for one in instances if one.state != "silent"]
    parts: list[RenderableType] = [_summary(title, heard, len(instances), now), Text("")]
    if not instances:
        parts.append(Text("No instance was heard of in the last ten minutes.", style="red"))
        return Group(*parts)
    parts += [_instances(instances, now), Text("")]
    troubles = _troubles(instances)
    tasks = [(one, task) for one in heard for task in one.tasks]
    room = None if height is None else max(height - len(instances) - 2 * len(troubles) - 9, 3)
    parts.append(_tasks(tasks, now, room))
    if troubles:
        parts += [Text(""), *troubles]
    return Group(*parts)


def _summary(title: str, heard: Sequence[InstanceStatus], known: int, now: float) -> Text:
    ready = sum(one.ready for one in heard)
    totals = [one.totals for one in heard]
    latency = max((one.latency_p99 for one in totals if one.latency_p99 is not None), default=None)
    facts = [
        f"{human.plural(known, 'instance')}, {ready} ready",
        human.plural(sum(len(one.tasks) for one in heard), "task"),
        f"in {human.rate(sum(one.rate_in for one in totals))}, out {human.rate(sum(one.rate_out for one in totals))}",
        f"lag {human.count(sum(one.lag for one in totals))}",
    ]
    behind = [task.behind for one in heard for task in one.tasks if task.behind is not None]
    if behind:
        facts.append(f"{human.behind(max(behind))} behind")
    workers = [worker for one in heard for worker in one.workers if worker.memory is not None and worker.budget]
    if workers:
        taken, most = sum(one.memory or 0 for one in workers), sum(one.budget or 0 for one in workers)
        facts.append(f"memory {human.size(taken)} of {human.size(most)}")
    if latency is not None:  # of 99 % of the records, at their commit
        facts.append(f"age {human.span(latency)}")
    text = Text.assemble((title, "bold"), (f"  {time.strftime('%H:%M:%S', time.localtime(now))}\n", "dim"))
    return text.append(" · ".join(facts), style="green" if known and ready == known else "yellow")


def _instances(instances: Sequence[InstanceStatus], now: float) -> RenderableType:
    table = human.table("INSTANCE", "STATE", ">WORKERS", ">TASKS", ">IN", ">LAG", ">BUSY", ">UP", ">HEARD", "HOST")
    for one in instances:
        running = sum(worker.state == "running" for worker in one.workers)
        now_known = (
            Text(f"{running}/{len(one.workers)}", style="" if running == len(one.workers) else "red"),
            str(len(one.tasks)),
            human.rate(one.totals.rate_in),
            human.count(one.totals.lag),
            f"{one.totals.busy:.0%}",
        )
        table.add_row(
            Text(escaped(one.instance)),
            _state(one.state),
            *(("-",) * len(now_known) if one.state == "silent" else now_known),
            human.span(max(now - one.started, 0.0)),
            human.span(max(now - one.at, 1.0)),
            Text(escaped(human.cut(one.host, 30))),
        )
    return table


def _tasks(tasks: list[tuple[InstanceStatus, TaskStatus]], now: float, room: int | None) -> RenderableType:
    """Those in trouble first, then by name; a last line says how many found no room."""
    tasks.sort(key=lambda row: (row[1].state == "running" and row[1].why is None, _natural(row[1].name)))
    shown = tasks if room is None or len(tasks) <= room else tasks[: room - 1]
    table = human.table("TASK", "OWNER", "STATE", ">LAG", ">BEHIND", ">IN", ">BUSY", "EVENT TIME")
    for one, task in shown:
        state = _state(task.state)
        if task.why is not None and task.state == "running":
            state = Text("retrying", style="yellow") if task.retrying else Text("stalled", style="red")
        owner = f"{one.instance}/{task.worker}"
        table.add_row(
            Text(escaped(task.name)),
            Text(escaped(owner)),
            state,
            human.count(task.lag),
            human.behind(task.behind),
            human.rate(task.rate),
            f"{task.busy:.0%}",
            human.moment(task.time, now),
        )
    if len(shown) == len(tasks):
        return table
    return Group(table, Text(f"… {human.plural(len(tasks) - len(shown), 'more task')} (--once shows all)", style="dim"))


def _troubles(instances: Sequence[InstanceStatus]) -> list[Text]:
    """A line for each thing that is not as it should be, for what is restored, and where workers follow the load."""
    lines = []
    for one in instances:
        lines += [_line(one.instance, reason, "red") for reason in one.reasons if one.state not in HEALTHY]
        if one.restore.tasks:
            left = one.restore.seconds_left
            soon = "" if left is None else f", about {human.span(left)} left"
            tasks = human.plural(one.restore.tasks, "task")
            size = "" if one.restore.bytes_left is None else f" ({human.size(one.restore.bytes_left)})"
            records = human.count(one.restore.remaining)
            lines.append(_line(one.instance, f"restores {tasks}: {records} records{size}{soon}", "yellow"))
        if one.restore.warm:
            tasks = human.plural(one.restore.warm, "task")
            behind = human.count(one.restore.warm_behind)
            lines.append(_line(one.instance, f"keeps {tasks} of other instances warm, {behind} records behind", "dim"))
        for table in one.tables if one.state != "silent" else ():
            who = f"{one.instance}/{table.worker}"
            if table.why is not None:
                lines.append(_line(who, f"global table {table.name}: {table.why}", "red"))
            elif not table.there:
                lines.append(
                    _line(
                        who, f"reads global table {table.name} first: {human.count(table.lag)} records left", "yellow"
                    )
                )
        for group in one.scaling:
            lines.append(_line(f"{one.instance}/{group.group}", _scaling(group), "dim"))
        for worker in one.workers:
            if worker.state == "restarting":
                due = "" if worker.restart_in is None else f" in {human.span(worker.restart_in)}"
                lines.append(_line(f"{one.instance}/{worker.name}", f"restarts{due}: {worker.last_error}", "red"))
            elif worker.why is not None and one.state != "silent":
                lines.append(_line(f"{one.instance}/{worker.name}", worker.why, "red"))
        for step, failed in one.failing.items() if one.state != "silent" else ():
            said = f"{human.plural(failed, 'failure')} at {step} within a minute"
            lines.append(_line(one.instance, said, "yellow"))
        for task in one.tasks if one.state != "silent" else ():
            if task.error or task.why:
                lines.append(_line(task.name, task.error or task.why or "", "red"))
    return [*lines, *_tables(instances)]


def _tables(instances: Sequence[InstanceStatus]) -> list[Text]:
    """A line for each global table: how many rows the workers have, and how far the last of them is behind."""
    tables: dict[str, list[TableStatus]] = defaultdict(list)
    for table in (table for one in instances if one.state != "silent" for table in one.tables if table.there):
        tables[table.name].append(table)
    return [
        _line(
            f"global table {name}",
            f"{human.count(max(one.rows for one in found))} rows in {human.plural(len(found), 'worker')}, "
            f"{human.count(max(one.lag for one in found))} records behind",
            "dim",
        )
        for name, found in tables.items()
    ]


def _scaling(group: ScalingStatus) -> str:
    """Where the number of workers follows the load."""
    load = "" if group.share is None else f", {group.share:.0%} busy or backpressured"
    reason = f"; {group.reason}" if group.reason else ""
    return f"{group.workers} of {group.least} to {group.most} workers{load}{reason}"


def _line(who: str, what: str, style: str) -> Text:
    return Text.assemble((f"{escaped(who)}: ", "bold"), (escaped(what), style))


def _state(state: str) -> Text:
    return Text(state, style=STYLES.get(state, ""))


def _natural(name: str) -> tuple[str, int]:
    part, _, number = name.rpartition("/")
    return part, int(number) if number.isdigit() else 0
