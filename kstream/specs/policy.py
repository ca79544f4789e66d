"""What is done about a record that fails: a list of policies, the first that fits decides.

The names are those of Kafka Streams (KIP-1033, KIP-1034) and of its dead letter queues. Declaring does no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from kstream.errors import TopologyError
from kstream.specs.names import check_name
from kstream.specs.schema import schema
from kstream.specs.topic import Topic

Classes = tuple[type[BaseException], ...]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """One of those below; not for use by itself.

    Args:
        on: exception classes it is for; none is all. What an exception was raised from counts too.

    Raises:
        TopologyError: `on` holds something else.
    """

    on: Classes = ()

    def __post_init__(self) -> None:
        given: Any = self.on
        for one in given if isinstance(given, tuple) else (None,):
            if not (isinstance(one, type) and issubclass(one, BaseException)):
                raise TopologyError(f"{type(self).__name__}(on={self.on!r}): give a tuple of exception classes")

    def dead_letters(self, app: str) -> str | None:
        """The topic for dead letters, where it has one."""
        return None

    def fits(self, error: BaseException) -> bool:
        """Whether it decides about a record that failed with this."""
        if not self.on:
            return True
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, self.on):
                return True
            cause = cause.__cause__
        return False


@dataclass(frozen=True, kw_only=True)
class Fail(Policy):
    """The task stops, and is tried again as the restart strategy says. This is the default."""


@dataclass(frozen=True, kw_only=True)
class Skip(Policy):
    """The record is left out: its offset is committed, nothing else of it is."""


@dataclass(frozen=True)
class DeadLetter(Policy):
    """As `Skip`, and the record is written to a topic, in the transaction that commits its offset.

    Args:
        topic: its name; None is `<app>-dead-letters`. It is created as other topics of the app.
    """

    topic: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.topic is not None:
            check_name(self.topic, "topic")

    def dead_letters(self, app: str) -> str:
        return f"{app}-dead-letters" if self.topic is None else self.topic


def check_policies(policies: Sequence[Any]) -> tuple[Policy, ...]:
    """Raises TopologyError where one is no policy, or can never decide because those before it do."""
    if not isinstance(policies, list | tuple):
        raise TopologyError(f"on_error={policies!r}: give a list of policies")
    before: list[Policy] = []
    for one in policies:
        if not isinstance(one, Fail | Skip | DeadLetter):
            raise TopologyError(f"on_error: {one!r} is no policy: give Fail(), Skip() or DeadLetter()")
        for other in before:
            if not other.on or (one.on and all(issubclass(kind, other.on) for kind in one.on)):
                raise TopologyError(f"on_error: {one!r} can never decide, because {other!r} comes before it")
        before.append(one)
    return tuple(before)


def dead_letter_topics(policies: Sequence[Policy], app: str, declared: Collection[str]) -> dict[str, Topic[Any, Any]]:
    """The topics of dead letters that are not declared, by name: keys and values are bytes."""
    names = dict.fromkeys(name for one in policies if (name := one.dead_letters(app)) is not None)
    return {
        name: Topic(name, schema(bytes, name, key=True), schema(bytes, name)) for name in names if name not in declared
    }
