"""A topic in which records wait, as it is derived from what policies say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delay:
    """A topic for records of a source that wait to be processed again, `seconds` each."""

    topic: str
    source: str
    seconds: float
