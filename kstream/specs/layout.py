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

BOTH_SIDES: Final = ", of a stream with itself"
"""Behind the layout of a join that keeps each record once, for both of its sides: those of one side are too few."""


def together(one: str, other: str) -> str:
    """The layout of a store that has both."""
    return f"{one} in {other}" if other else one


def reads(layout: str, before: str) -> bool:
    """Whether what was written with the layout `before` is read rightly with `layout`. Where `before` is "", nothing is
    known of it: it is from a version that did not keep it, or the store had none."""
    return before == "" or any(_is_same(one, before) for one in (layout, layout + NOTED))


def _is_same(one: str, other: str) -> bool:
    """Time zones have several names, of which one day another is the usual one (Europe/Kiev, Europe/Kyiv)."""
    if one == other:
        return True
    mine, theirs = one.split(), other.split()
    return len(mine) == len(theirs) and all(map(_is_same_word, mine, theirs))


def _is_same_word(one: str, other: str) -> bool:
    if one == other:
        return True
    from kstream.specs.local_days import is_same_zone

    return is_same_zone(one, other)
