"""What kinds of steps and of agents there are."""

from __future__ import annotations

from enum import Enum
from typing import Final


class Step(Enum):
    """The stateless steps, all of one function."""

    MAP = "map"
    FILTER = "filter"
    FLAT_MAP = "flat_map"
    PEEK = "peek"
    REKEY = "rekey"


class AgentKind(Enum):
    FUNCTION = "function"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    COROUTINE = "coroutine"


ASYNC: Final = (AgentKind.ASYNC_GENERATOR, AgentKind.COROUTINE)
"""Agents that may wait in the middle of a record."""
