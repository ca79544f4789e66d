"""A plan as it is shown in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.text import Text

from kstream.cli import human
from kstream.cli.planning.answer import Answer, OtherRate
from kstream.cli.planning.arithmetic import Cost, Plan, Target
from kstream.cli.planning.limits import Limit
from kstream.cli.planning.sums import Line, small

_SHOWN = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "binds": ("BINDS", "bold red")}


def screen(answer: Answer) -> RenderableType:
    target, plan = answer.target, answer.plan
    title = Text(f"{answer.app} at {human.rate(target.rate)}", style="bold")
    notes = [Text(f"- {note}", style="dim") for note in answer.notes]
    return Group(
        title, "", *_measured(answer.measured), "", *_proposal(target, plan), "", *_parts(plan), "",
        *_sums(answer.arithmetic), "", *_limits(answer.limits), "", *_other_rates(answer.other_rates), "", *notes,
    )  # fmt: skip


def _measured(cost: Cost) -> Iterator[RenderableType]:
    yield _heading("Measured")
    table = human.table("SUB-TOPOLOGY", "GROUP", ">RECORDS", ">TIME", ">PROCESSOR")
    for part in cost.parts:
        table.add_row(part.name, part.group, f"{part.records:.3g}", small(part.time), small(part.cpu))
    yield table
    yield Text(
        f"{cost.records:,} records in {cost.seconds:.1f} s: {human.rate(cost.records / cost.seconds)}, broker and all\n"
        f"each: {cost.input_bytes:.0f} B in; {cost.written:.3g} records, {cost.written_bytes:.0f} B out "
        f"({cost.changelog:.3g} of them to changelogs)\n"
        f"workers: {cost.waiting:.0%} of their time waiting, {human.size(cost.memory)} resident",
        style="dim",
    )


def _proposal(target: Target, plan: Plan) -> Iterator[RenderableType]:
    yield _heading("Proposal")
    table = human.table(
        "GROUP", ">PARTITIONS", ">INSTANCES", ">WORKERS EACH", ">CORES EACH", ">MEMORY EACH", ">CARRIES"
    )
    for group in plan.groups:
        table.add_row(
            group.name,
            f"{group.partitions:,}",
            f"{group.instances:,}",
            f"{group.workers_per_instance:,}",
            str(target.cores),
            human.size(group.memory_per_instance),
            human.rate(group.capacity),
        )
    yield table
    state = plan.state
    if state.entries:
        yield Text(
            f"state: {human.size(int(state.bytes))}, {human.size(int(state.per_task))} a task; disk for it "
            f"{human.size(state.disk)} an instance; restored in {human.span(state.restore)}"
        )
    yield Text(f"rule of thumb: {human.plural(plan.rule_of_thumb, 'worker')} on {target.cores} cores", style="dim")


def _parts(plan: Plan) -> Iterator[RenderableType]:
    yield _heading("Sub-topologies")
    table = human.table("SUB-TOPOLOGY", ">RECORDS", ">WORKERS' WORTH", ">PARTITIONS", ">AT LEAST")
    for part in plan.parts:
        table.add_row(part.name, human.rate(part.rate), f"{part.load:.3g}", f"{part.partitions:,}", f"{part.least:,}")
    yield table
    yield Text("behind a repartition: parallelism=; equal counts keep the workers even", style="dim")


def _sums(sums: list[Line]) -> Iterator[RenderableType]:
    yield _heading("Arithmetic")
    table = human.table("", "", "")
    table.show_header = False
    for line in sums:
        table.add_row(line.what, line.sum, Text(f"= {line.result}", style="bold"))
    yield table


def _limits(limits: list[Limit]) -> Iterator[RenderableType]:
    yield _heading("Limits")
    table = human.table("", "", "")
    table.show_header = False
    for limit in limits:
        mark, style = _SHOWN[limit.state]
        table.add_row(Text(mark, style=style), limit.name, limit.text)
    yield table


def _other_rates(rates: list[OtherRate]) -> Iterator[RenderableType]:
    yield _heading("At other rates")
    table = human.table(">RATE", ">WORKERS", ">INSTANCES", ">PARTITIONS", "BINDS")
    for one in rates:
        table.add_row(
            human.rate(one.rate),
            f"{one.workers:,}",
            f"{one.instances:,}",
            f"{one.partitions:,}",
            Text(", ".join(one.binds) or "-", style="red" if one.binds else ""),
        )
    yield table


def _heading(text: str) -> Text:
    return Text(text, style="bold underline")
