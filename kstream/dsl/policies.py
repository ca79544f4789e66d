"""`on_error=`, of apps, streams and agents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from kstream.specs.policy import Policy
    from kstream.specs.topic import Topic


def policies(given: Any, where: str) -> tuple[Policy, ...]:
    """What was given, checked.

    Raises:
        TopologyError: one of them is no policy, or can never decide.
    """
    if given == [] or given == ():
        return ()
    from kstream.specs.policy import check_policies  # most apps do without

    return check_policies(given, where)


def dead_letters(given: Sequence[Policy], app: str, declared: Collection[str]) -> list[Topic[Any, Any]]:
    """The topics of dead letters that are not declared."""
    if not given:
        return []
    from kstream.specs.policy import dead_letter_topics

    return list(dead_letter_topics(given, app, declared).values())
