"""`on_error=`, of apps, streams and agents."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kstream.dsl.deployed import Names
    from kstream.specs.policy import Policy
    from kstream.specs.topic import Topic


def policies(given: Any, where: str, names: Names) -> tuple[Policy, ...]:
    """What was given, checked, with the topics of dead letters as they are called where the app runs.

    Raises:
        TopologyError: one of them is no policy, or can never decide.
    """
    if given == [] or given == ():
        return ()
    from kstream.specs.policy import DeadLetter, check_policies  # most apps do without

    return tuple(
        replace(one, topic=names.topic(one.topic)) if isinstance(one, DeadLetter) and one.topic is not None else one
        for one in check_policies(given, where)
    )


def dead_letters(given: Sequence[Policy], app: str, declared: Collection[str]) -> list[Topic[Any, Any]]:
    """The topics of dead letters that are not declared."""
    if not given:
        return []
    from kstream.specs.policy import dead_letter_topics

    return list(dead_letter_topics(given, app, declared).values())
