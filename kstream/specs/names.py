"""What Kafka takes of a topic: its name, those of what topics are named after, its number of partitions."""

from __future__ import annotations

import re
from typing import Any, Final, Literal, get_args

from kstream.errors import TopologyError

LONGEST: Final = 249
"""Letters of a topic's name, and of a group member's."""

LONGEST_APP: Final = 100
"""Letters of an app's name: topics, group members and directories are named after it."""

_REFUSED: Final = re.compile(r"[^A-Za-z0-9._-]")
_SHOWN: Final = 56


def check_name(name: Any, what: str, longest: float = LONGEST) -> None:
    """Raises TopologyError when Kafka would refuse a topic of this name.

    Args:
        what: is called so: "topic", "table".
        longest: letters; infinite where the name is part of a topic's, which is checked whole.
    """
    problem = _problem(name, longest)
    if problem:
        raise TopologyError(f"{what} {cut(name)}: the name {problem}")


def check_derived(topic: str, what: str, advice: str) -> None:
    """Raises TopologyError when Kafka would refuse a topic that is made for something.

    Args:
        what: it is made for, and how: "table 'a': its changelog".
    """
    problem = _problem(topic, LONGEST)
    if problem:
        raise TopologyError(f"{what} {cut(topic)} would have{problem.removeprefix('has')}: {advice}")


def check_partitions(count: Any, what: str) -> None:
    """Raises TopologyError when a topic cannot have so many partitions; None is left to others."""
    if count is not None and (type(count) is not int or count < 1):
        raise TopologyError(f"{what}={count!r} is not a number of partitions, 1 or more")


def _problem(name: Any, longest: float) -> str | None:
    if not isinstance(name, str):
        return "is no text"
    if not name:
        return "is empty"
    if name in (".", ".."):
        return "cannot be '.' or '..'"
    if bad := dict.fromkeys(_REFUSED.findall(name)):
        return f"has {', '.join(map(repr, bad))}, and Kafka takes letters, digits, '.', '_' and '-'"
    if len(name) > longest:
        return f"has {len(name)} letters, and {'Kafka' if longest == LONGEST else 'kstream'} takes {longest:.0f}"
    return None


def cut(name: Any) -> str:
    """A name for messages, cut in the middle where it is long: names differ at their ends."""
    if not isinstance(name, str) or len(name) <= _SHOWN:
        return repr(name)
    half = _SHOWN // 2
    return repr(f"{name[:half]}…{name[-half:]}")


def metric_name(topic: str) -> str:
    """What Kafka's metrics call a topic. It makes none that they would call as another."""
    return topic.replace(".", "_")


Own = Literal["instances", "control", "store-types", "dead-letters-handled"]
"""What an app keeps topics for, besides changelogs, repartition and delay topics."""


def own_topic(app: str, what: Own) -> str:
    """The topic in which an app keeps this."""
    return f"{app}-{what}"


def own_topics(app: str) -> frozenset[str]:
    """All of them: nothing else may be in one."""
    return frozenset(own_topic(app, what) for what in get_args(Own))
