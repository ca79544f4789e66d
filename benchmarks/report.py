"""The table, in the terminal and as RESULTS.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from rich.table import Table

from benchmarks.cases import MEMORY, OBSERVING, Row, Sizes

HEAD = ("case", "yardstick", "kstream", "ratio", "bar", "met?")

HOW = """\
One worker, exactly-once, RocksDB, real Kafka; records a second. The yardstick (`benchmarks/yardstick.py`) is the same
job written by hand, without what a framework has to do. Both run in processes of their own, in turn within each
repetition. Each figure is the median of the repetitions; the ratio is the median of the repetitions' own ratios.

- The yardstick's clock runs from the first messages in hand to the commit of the last. kstream's worker is the process
  that `kstream run --workers 1` starts, with default settings but for the commit interval, measured inside by the hook
  that is called after each turn of its loop: from the end of the first turn that processed records (these are not
  counted) to the commit of the last, which is asked for at once, as the yardstick does. Start-up, joining the group
  and the clean stop are outside on both sides.
- The yardstick prefetches a million records of each partition, as the loop did that the bars were set with. With
  kstream's own 20,000 (`--prefetch 20000`) it mostly takes 5 to 25% less processor time (two of eight pairs: no less).
- Every run's output is read back, read committed: the last totals of all keys must add up to the input's records and
  prices, and where every update is emitted there must be as many records out as in.
- Restore: the state directory is deleted and the worker started again; from the first turn with restored records to
  all tasks running. The hand-written loop consumes the same changelog into write batches of 10,000.
- Metrics: counting, reports, librdkafka's statistics and the like (the stages named "observing" in
  `benchmarks/stages.py`), timed in a run with the default commit interval; the ratio is what they leave of the
  process's processor time. Runs with and without them differ by 10% among themselves, which would hide it.
- How much any bar can ask for: `benchmarks/FLOOR.md` has what the clients alone take. With 64 partitions they come to
  1.3 of the yardstick with the JSON read and written, before anything is aggregated.
- 64 partitions: the bar is met when the worker's peak of resident memory (below) is within the default of `memory` too.
- Memory: resident set of the worker, the most in a flush interval (30 s) after that many records, and in the last one;
  the ratio is that of the two. It goes up and down with RocksDB's write buffers, which are flushed so often.
"""


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table as text."""
    case, ratio = row.case, row.ratio
    bar = f"≤ {case.bar:g}" if case is MEMORY else f"≥ {case.bar:g}" + (f", aim {case.aim:g}" if case.aim else "")
    if ratio is None or row.failures:
        return case.title, "", "failed", "", bar, "failed"
    if case is OBSERVING:
        return case.title, "", f"{median(one.rate for one in row.kstream):,.0f}", f"{ratio:.3f}", bar, _yes(row)
    figures = [median(one.rate for one in side) for side in (row.yardstick, row.kstream)]
    theirs, mine = (f"{one / 2**20:,.0f} MiB" if case is MEMORY else f"{one:,.0f}" for one in figures)
    return case.title, theirs, mine, f"{ratio:.2f}", bar, _yes(row)


def _yes(row: Row) -> str:
    return "yes" if row.met else "NO"


def terminal_table(rows: list[Row], *, quick: bool) -> Table:
    title = "kstream and the yardstick, records/s" + ("; the sizes are small, the bars are for large ones" * quick)
    table = Table(*HEAD, title=title)
    for column in table.columns[1:4]:
        column.justify = "right"
    for row in rows:
        style = {True: "green", False: "yellow", None: "red"}[row.met]
        *others, met = cells(row)
        table.add_row(*others, f"[{style}]{met}[/]")
    return table


def markdown(rows: list[Row], sizes: Sizes, facts: dict[str, str], repetitions: int) -> str:
    main, cold, long = sizes.main, sizes.cold, sizes.long
    lines = [
        "# Benchmark results",
        "",
        f"Made by `make bench`. {main.records:,} JSON bids over {main.keys:,} keys, 4 partitions, a commit a second "
        f"if nothing else is said; cold state and restore: {cold.records:,} records over as many keys; memory: from "
        f"{sizes.memory_from:,} to {long.records:,} records over {long.keys:,} keys. {repetitions} repetitions "
        "(memory: one run).",
        "",
        *table(HEAD, [cells(row) for row in rows], "lrrrll"),
        "",
        HOW,
        "## The machine",
        "",
        *table(("", ""), list(facts.items()), "ll"),
        "",
        "## Each repetition",
        "",
        "Processor time is of the whole process, librdkafka's threads included, in microseconds a record: it depends "
        "less on what else the machine does.",
        "",
        *table(
            (
                "case",
                "ratios",
                "yardstick µs/record",
                "kstream µs/record",
                "ratio of these",
                "kstream peak MiB",
                "commits",
                "aborts",
            ),
            [_details(row) for row in rows if row.ratios],
            "lrrrrrrr",
        ),
    ]
    for row in rows:
        if row.case is MEMORY and row.kstream:
            way = ", ".join(f"{size / 2**20:,.0f}" for size in row.kstream[0].details["way"])
            lines += [
                "",
                f"Resident memory, the most in each eighth of the run of {long.records:,} records: {way} MiB.",
            ]
    failures = [f"- {row.case.title}: {failure}" for row in rows for failure in row.failures]
    if failures:
        lines += ["", "## Failures", "", *failures]
    return "\n".join(lines) + "\n"


def _details(row: Row) -> tuple[str, ...]:
    def all_of(name: str) -> str:
        return ", ".join(f"{one.details[name]}" for one in row.kstream)

    return (
        row.case.title,
        ", ".join(f"{ratio:.2f}" for ratio in row.ratios),
        "" if row.case is MEMORY else ", ".join(f"{one.cpu:.2f}" for one in row.yardstick),
        ", ".join(f"{one.cpu:.2f}" for one in row.kstream),
        ""
        if row.case in (MEMORY, OBSERVING)
        else f"{median(one.cpu for one in row.yardstick) / median(one.cpu for one in row.kstream):.2f}",
        ", ".join(f"{one.details['peak_rss'] / 2**20:,.0f}" for one in row.kstream),
        all_of("commits"),
        all_of("aborts"),
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> list[str]:
    """The lines of a Markdown table; `align` has a letter for each column, "r" for numbers."""
    rules = ["---:" if one == "r" else "---" for one in align]
    return ["| " + " | ".join(cells) + " |" for cells in (head, rules, *rows)]
