"""`python -m benchmarks.reuse`: what it saves to use an object again; writes a report beside itself.

Each case (`reuse_cases.py`) does one job with an object made for each record, and with one that is used again. Both
come in turn within each repetition, several rounds each, of which the least counts: other processes can only add to
it. The median of the repetitions counts, for the times and for the ratio. Exit status 1 when both do not give the same.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple, TypeVar

from rich.console import Console

import kstream
from benchmarks import machine, micro
from benchmarks.records import Bid, Total
from benchmarks.report import table
from benchmarks.reuse_cases import Case, Classic, codecs, copies, expensive, objects
from benchmarks.services import add, new_total

RESULTS = Path(__file__).parent / "REUSE.md"
ROUNDS: Final = 7

V = TypeVar("V")


class Figure(NamedTuple):
    """Seconds a record, of each repetition."""

    case: Case
    anew: list[float]
    again: list[float]


# ---- in the engine: a whole worker, without a broker


def folding(name: str, source: str, fold: Callable[[Total, Bid], Total]) -> kstream.App:
    app = kstream.App(name)
    bids = app.topic(source, key=int, value=Bid)
    totals = app.topic(f"{name}-out", key=int, value=Total)
    app.stream(bids).group_by_key().aggregate(new_total, fold, name="totals", value=Total).to(totals)
    return app


def add_anew(total: Total, bid: Bid) -> Total:
    return Total(bid.auction, total.count + 1, total.sum + bid.price)


def mapping(name: str, source: str, kind: type[V], function: Callable[[V], V]) -> kstream.App:
    app = kstream.App(name)
    values = app.topic(source, key=int, value=kind)
    out = app.topic(f"{name}-out", key=int, value=kind)
    app.stream(values).map(function, value=kind).to(out)
    return app


def dearer(bid: Bid) -> Bid:
    bid.price += 1
    return bid


def dearer_anew(bid: Bid) -> Bid:
    return Bid(bid.auction, bid.price + 1)


def dearer_classic(bid: Classic) -> Classic:
    bid.price += 1
    return bid


def dearer_classic_anew(bid: Classic) -> Classic:
    return Classic(bid.auction, bid.price + 1, bid.bidder)


def in_engine() -> Iterator[tuple[str, str, dict[str, micro.Kind]]]:
    yield (
        "accumulator of a fold, whole worker", "changed in place",
        {"anew": lambda n, s: folding(n, s, add_anew), "again": lambda n, s: folding(n, s, add)},
    )  # fmt: skip
    yield (
        "result of a map, a Struct, whole worker", "the input changed in place",
        {"anew": lambda n, s: mapping(n, s, Bid, dearer_anew), "again": lambda n, s: mapping(n, s, Bid, dearer)},
    )  # fmt: skip
    yield (
        "the same, a dataclass", "the input changed in place",
        {"anew": lambda n, s: mapping(n, s, Classic, dearer_classic_anew),
         "again": lambda n, s: mapping(n, s, Classic, dearer_classic)},
    )  # fmt: skip


def measured_in_engine(repetitions: int) -> Iterator[Figure]:
    batches = micro.messages()
    with tempfile.TemporaryDirectory(prefix="kstream-reuse-") as folder:
        for number, (what, how, kinds) in enumerate(in_engine()):
            engines = {kind: micro.Engine(kind, Path(folder) / str(number), kinds) for kind in kinds}
            found = [micro.measure(engines, batches, passes=ROUNDS) for _ in range(repetitions)]
            for engine in engines.values():
                if engine.records != micro.RECORDS * ROUNDS * repetitions:
                    raise AssertionError(f"{what}: {engine.records} records were processed")
                engine.close()
            anew, again = ([one[kind][0] / 1e9 for one in found] for kind in ("anew", "again"))
            yield Figure(Case(what, how, _nothing, _nothing, micro.RECORDS), anew, again)


def _nothing(count: int) -> None:
    return None


# ---- measuring


def measure(case: Case, repetitions: int) -> Figure:
    """Raises AssertionError when the two ways do not give the same."""
    figure = Figure(case, [], [])
    first, second = case.anew(case.records), case.again(case.records)
    if first != second:
        raise AssertionError(f"{case.what}: {first!r} when made anew, {second!r} when used again")
    for _ in range(repetitions):
        least = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for slot, job in enumerate((case.anew, case.again)):
                began = time.perf_counter()
                job(case.records)
                least[slot] = min(least[slot], (time.perf_counter() - began) / case.records)
        figure.anew.append(least[0])
        figure.again.append(least[1])
    return figure


def cells(figure: Figure) -> tuple[str, ...]:
    case = figure.case
    ratios = sorted(anew / again for anew, again in zip(figure.anew, figure.again, strict=True))
    spread = f"{_ratio(median(ratios))} ({_ratio(ratios[0])} to {_ratio(ratios[-1])})"
    if max(figure.anew) < 1e-9:  # there is nothing to compare with
        spread = ""
    return case.what, _time(median(figure.anew)), case.how, _time(median(figure.again)), spread


def _time(seconds: float) -> str:
    if seconds < 1e-9:
        return ""
    return f"{seconds * 1e9:,.0f} ns" if seconds < 1e-5 else f"{seconds * 1e6:,.0f} µs"


def _ratio(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.2f}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reuse", description="what it saves to reuse objects")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    console, facts = Console(), machine.facts("none")
    rows: list[tuple[str, ...]] = []

    def keep(figure: Figure) -> None:
        rows.append(cells(figure))
        console.print(*rows[-1], sep=" | ")

    try:
        for case in (*objects(), *copies()):
            keep(measure(case, given.repeat))
        for figure in measured_in_engine(given.repeat):
            keep(figure)
        for case in codecs():
            keep(measure(case, given.repeat))
        with ExitStack() as stack:
            for case in expensive(stack):
                keep(measure(case, given.repeat))
    except AssertionError as error:
        console.print(str(error), style="red")
        return 1
    given.output.write_text(_page(rows, facts, given.repeat))
    console.print(f"written to {given.output}")
    return 0


def _page(rows: Sequence[tuple[str, ...]], facts: dict[str, str], repetitions: int) -> str:
    told = (
        f"Made by `python -m benchmarks.reuse`. Time for each record. In each of {repetitions} repetitions both ways "
        f"come in turn, {ROUNDS} rounds each, of which the least counts; the medians of the repetitions are shown, in "
        "brackets their range. The whole worker is that of `python -m benchmarks --micro`: engine, codecs and state, "
        "no broker."
    )
    columns = ("made for each record", "time", "used again by", "time", "times as fast")
    lines = ["# Objects used again", "", told, "", *table(columns, rows, "lrlrr"), "", "## The machine", ""]
    return "\n".join([*lines, *table(("", ""), list(facts.items()), "ll"), ""])


if __name__ == "__main__":
    sys.exit(main())
