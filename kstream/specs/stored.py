"""What kstream stores, and the number of the form of each.

A number goes up where an older version would read what is written wrongly. Then that version refuses it in one line,
which says what it is, where it lies and what to do: it never takes it for something else. What is only added (a field
that older versions need not know) leaves the number as it is. docs/upgrading.md lists them all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec


@dataclass(frozen=True, slots=True)
class StoredForm:
    """A form.

    Attributes:
        name: what has it, as messages call it.
        number: the one that is written, and the last one that is read.
        mend: what is to be done where a later one is met.
    """

    name: str
    number: int
    mend: str = "run the later version again"

    def refusal(self, where: str, found: int) -> str | None:
        """The line that is said of one with the number `found`; None where this version reads it.

        Args:
            where: it lies.
        """
        if found <= self.number:
            return None
        return (
            f"{where}: a later version of kstream wrote it ({self.name} of form {found}, this one reads up to "
            f"{self.number}): {self.mend}"
        )


class _Numbered(msgspec.Struct):
    v: int = 1


_numbered = msgspec.json.Decoder(_Numbered).decode


def number_in(said: bytes) -> int:
    """The number of the form that JSON says it has, whatever else it has; 1 where it says none, 0 where it is no such
    JSON."""
    try:
        return _numbered(said).v
    except msgspec.MsgspecError:
        return 0


_REBUILD: Final = "it is made anew from Kafka"

OFFSETS: Final = StoredForm("offset metadata", 1)
TYPES: Final = StoredForm(
    "the types of a store", 1, "run the later version again, use another name for the store, or reset the app"
)
TIME_MARKS: Final = StoredForm("a time mark", 1)
DELAYED: Final = StoredForm("the note of a delayed record", 1)
LETTERS: Final = StoredForm("a dead letter", 1, "replay or purge it with the later version")
HANDLED: Final = StoredForm("the mark of a handled dead letter", 1, "use kstream dlq of the later version")
ANNOUNCEMENTS: Final = StoredForm("an announcement", 1, "look at it with the later version (kstream status)")
CONTROL: Final = StoredForm("a word in the control topic", 1, "use the later version for it")
SNAPSHOTS: Final = StoredForm("a snapshot", 1)
SAVEPOINTS: Final = StoredForm("a savepoint", 1, "restore it with the later version")
PARQUET: Final = StoredForm("a Parquet file of entries", 1, "import it with the later version")
LOCAL_STATE: Final = StoredForm("local state", 2, _REBUILD)
"""Version 1 knows plain entries only, and is still written for these."""
GLOBAL_ROWS: Final = StoredForm("rows of a global table", 1, _REBUILD)
MEMORY: Final = StoredForm("the file of a memory backend", 1, _REBUILD)
DIRECTORY: Final = StoredForm(
    "a state directory", 1, "run the later version again, or delete the directory (its state comes back from Kafka)"
)

FORMS: Final = (
    OFFSETS, TYPES, TIME_MARKS, DELAYED, LETTERS, HANDLED, ANNOUNCEMENTS, CONTROL, SNAPSHOTS, SAVEPOINTS, PARQUET,
    LOCAL_STATE, GLOBAL_ROWS, MEMORY, DIRECTORY,
)  # fmt: skip
"""All that carry a number."""
