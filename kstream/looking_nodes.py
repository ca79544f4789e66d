"""The nodes of steps that are there to be looked at."""

from __future__ import annotations

from dataclasses import dataclass

from kstream.topology import Node


@dataclass(eq=False, kw_only=True)
class DebugNode(Node):
    """Its records are counted and shown in the log."""


@dataclass(eq=False, kw_only=True)
class SampleNode(Node):
    """Passes on a share of the records: `rate`, from 0 to 1."""

    rate: float
