"""What besides its types decides what the entries of a store mean: the size of windows, how far apart joined records
may be, how many are kept. It is a text, which people read in messages; it lies with the types that a store has had
(runtime/cluster/stored_types.py).

What only says how long something is waited for, or when results are told (`grace=`, `late=`, `emit=`, the gap of
sessions, the n of `Counting`), is none of it: entries mean the same then.
"""

from __future__ import annotations

from typing import Final

NOTED: Final = ", noting which records have found one"
"""Behind the layout of a side of a join whose records have a result where they find nothing."""


def together(one: str, other: str) -> str:
    """The layout of a store that has both."""
    return f"{one} in {other}" if other else one


def reads(layout: str, before: str) -> bool:
    """Whether what was written with the layout `before` is read rightly with `layout`. Where `before` is "", nothing is
    known of it: it is from a version that did not keep it, or the store had none."""
    return before in ("", layout, layout + NOTED)
