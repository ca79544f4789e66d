"""Numbers and times as people read them, and the tables of the operators' commands."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table

from kstream.escape import escaped


class SafeConsole(Console):
    """Names, values and errors come from others: their markup is text, their control characters are escaped."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(escaped, text.split("\n"))), style)


def console() -> Console:
    """Standard output; into a file or pipe, as wide as a line needs."""
    out = SafeConsole(highlight=False, markup=False, emoji=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = 160
    return out


def lines(*, stderr: bool = False) -> Console:
    """For lines that are as long as they are: on standard output or error."""
    return SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)


def complain(text: str) -> None:
    """One line on standard error, as errors of the command are."""
    print("kstream:", escaped(" ".join(text.split())), file=sys.stderr)


def write(text: str) -> None:
    """Lines of text on standard output."""
    sys.stdout.write("\n".join(map(escaped, text.split("\n"))) + "\n")
    sys.stdout.flush()


def write_json(value: Any, *, indented: bool = True) -> None:
    """A value on standard output, as JSON; what is escaped of it JSON reads as it was."""
    data = msgspec.json.encode(value)
    write((msgspec.json.format(data) if indented else data).decode())


def table(*columns: str) -> Table:
    """Without lines. A column whose name begins with ">" holds numbers."""
    made = Table(box=None, pad_edge=False, header_style="bold dim", collapse_padding=True)
    for name in columns:
        if name.startswith(">"):
            made.add_column(name[1:], justify="right", no_wrap=True)
        else:
            made.add_column(name, overflow="fold")
    return made


def cut(words: str, most: int) -> str:
    """A long name without its middle: names often differ at their ends."""
    if len(words) <= most:
        return words
    tail = (most - 1) * 3 // 5
    return f"{words[: most - 1 - tail]}…{words[-tail:]}"


def count(number: float) -> str:
    """1,234; 56.7k; 1.2M; at most five letters."""
    if number < 10_000:
        return f"{number:,.0f}"
    if number >= 1e15:
        return f"{number:.0e}"
    for unit in ("k", "M", "G"):
        number /= 1000
        if number < 999.5:
            return f"{number:.1f}{unit}" if number < 99.95 else f"{number:.0f}{unit}"
    return f"{number:,.0f}G"


def rate(number: float) -> str:
    return f"{count(number)}/s" if number >= 10 or number == 0 else f"{number:.1f}/s"


def span(seconds: float) -> str:
    """12 ms, 3 s, 5 min, 3 h 20 min, 2 d 4 h."""
    if seconds > 1e10:  # three hundred years: nobody means that
        return "?"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def behind(seconds: float | None) -> str:
    """A time behind, "-" where there is none. The ends of inputs are looked at twice a second: less is not known."""
    return "-" if seconds is None else "< 1 s" if seconds < 1.0 else span(seconds)


def moment(at: float | None, now: float) -> str:
    """A time of today, or the date too."""
    if at is None:
        return "-"
    try:
        then, today = time.localtime(at), time.localtime(now)
    except (OverflowError, ValueError, OSError):  # what an instance or a record claims may be no time
        return "?"
    return time.strftime("%H:%M:%S" if then[:3] == today[:3] else "%Y-%m-%d %H:%M", then)


def plural(number: int, one: str) -> str:
    return f"{number:,} {one}" if number == 1 else f"{number:,} {one}s"


def size(value: int) -> str:
    """For people: 1.5 GiB."""
    number, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while number >= 1024 and len(units) > 1:
        number /= 1024
        del units[0]
    return f"{number:.1f} {units[0]}" if number < 100 and units[0] != "B" else f"{number:.0f} {units[0]}"
