"""What happened in a day, as a table that is printed while it goes, and as a page of Markdown."""

from __future__ import annotations

import sys
import time
from typing import NamedTuple

SECTIONS = "../docs/runbook.md"


class Entry(NamedTuple):
    """`seconds` since the beginning. `told` is what came to the pager, of the alert `alert`, if it did."""

    seconds: float
    done: str = ""
    told: str = ""
    alert: str = ""
    mends: str = ""


class Diary:
    """Args:
    speed: how many times as fast the day goes as a real one.
    """

    def __init__(self, speed: float) -> None:
        self._speed, self._began = speed, time.monotonic()
        self.entries: list[Entry] = []
        self._print("TIME", "AS OF A DAY", "WHAT WAS DONE", "WHAT CAME", "RUNBOOK", "WHAT MENDS IT")

    def write(self, done: str = "", told: str = "", alert: str = "", mends: str = "") -> None:
        entry = Entry(time.monotonic() - self._began, done, told, alert, mends)
        self.entries.append(entry)
        section = alert and f"#{alert.lower()}"
        self._print(*self._times(entry.seconds), done, told, section, mends)

    def page(self, head: str) -> str:
        rows = [head, "| time | as of a day | what was done | what came | runbook | what mends it |", "|" + "---|" * 6]
        for entry in self.entries:
            link = f"[{entry.alert}]({SECTIONS}#{entry.alert.lower()})" if entry.alert else ""
            columns = (*self._times(entry.seconds), entry.done, entry.told, link, entry.mends)
            rows.append("| " + " | ".join(columns) + " |")
        return "\n".join([*rows, ""])

    def _times(self, seconds: float) -> tuple[str, str]:
        whole, minutes = round(seconds), round(seconds * self._speed / 60)
        return f"{whole // 60}:{whole % 60:02}", f"{minutes // 60}:{minutes % 60:02}"

    def _print(self, *columns: str) -> None:
        widths = (5, 11, 52, 32, 14, 0)
        line = "  ".join(text.ljust(width) for text, width in zip(columns, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
        sys.stdout.flush()
