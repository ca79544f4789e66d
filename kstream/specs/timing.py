"""What a step has to do with event time."""

from __future__ import annotations

from typing import NamedTuple


class Timing(NamedTuple):
    """Of a node.

    Attributes:
        follows: it wants to know the time of its task.
        late: why its results come after their times have passed, for messages; empty where they do not.
        held: so many ms after their times they come, where the time of the task decides.
    """

    follows: bool = False
    late: str = ""
    held: int = 0
