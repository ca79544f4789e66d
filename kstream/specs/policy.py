"""What is done about a record that fails: a list of policies, the first that fits decides.

The names are those of Kafka Streams (KIP-1033, KIP-1034) and of its dead letter queues; `Retry` is the non-blocking
back-off of a consumer (order within the partition is kept), `RetryLater` the retry topics of Spring Kafka
and of Uber's consumers (it is not). Declaring does no I/O.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, get_args

from kstream.backoff import Pauses
from kstream.errors import NonRetryable, Retryable, TopologyError
from kstream.specs.names import check_name, own_topic, own_topics
from kstream.specs.schema import schema
from kstream.specs.topic import Topic

Classes = tuple[type[BaseException], ...]

Phase = Literal["decode", "process", "encode", "produce", "restore", "timer"]
"""Where a record fails:

- `decode`: its bytes are not what the topic is declared with, or it has no event time;
- `process`: user code raises, or is too slow (`timeout=` of an agent), or a sink outside Kafka fails;
- `encode`: a result, key or table entry cannot be written, or would not come back as it is;
- `produce`: Kafka refuses what the record caused (a topic that is gone is no record's failure);
- `restore`: an entry of a table that was stored before cannot be decoded any more;
- `timer`: `on_timer` of a processor raises. Then it is not a record that fails, but a timer.
"""
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
MAY_PASS: Final[tuple[Phase, ...]] = ("process", "produce", "timer")
"""Phases in which doing the same again may end otherwise."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Policy:
    """One of those below; not for use by itself.

    Args:
        on: the exception classes it is for, or one of them; none is all. What an exception was raised from counts too,
            and what is in a group of exceptions.
        phase: the phases it is for, or one of them; none is all.

    Raises:
        TopologyError: one of them holds something else.
    """

    on: Classes | type[BaseException] = ()
    phase: Phase | tuple[Phase, ...] = ()

    def __post_init__(self) -> None:
        name = type(self).__name__
        classes: Any = (self.on,) if isinstance(self.on, type) else self.on
        if not isinstance(classes, tuple) or not all(map(_is_exception, classes)):
            raise TopologyError(f"{name}(on={self.on!r}): give an exception class, or a tuple of them")
        phases: Any = (self.phase,) if isinstance(self.phase, str) else self.phase
        if not isinstance(phases, tuple) or not all(one in PHASES for one in phases):
            raise TopologyError(f"{name}(phase={self.phase!r}): give one of {', '.join(PHASES)}, or a tuple of them")
        object.__setattr__(self, "on", classes)
        object.__setattr__(self, "phase", phases)

    def __repr__(self) -> str:
        """As it may be declared: what is at its default is left out."""
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        told = (f"{name}={_told(value)}" for name, value in given if value != getattr(type(self), name))
        return f"{type(self).__name__}({', '.join(told)})"

    def dead_letters(self, app: str) -> str | None:
        """The topic for dead letters, where it has one."""
        return None

    def fits(self, error: BaseException, phase: Phase) -> bool:
        """Whether it is for a record that failed so."""
        return (not self.phase or phase in self.phase) and (not self.on or _is_any(error, _classes(self)))


@dataclass(frozen=True, kw_only=True, repr=False)
class Fail(Policy):
    """The task stops, and is tried again as the restart strategy says. This is the default."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Skip(Policy):
    """The record is left out: its offset is committed, nothing else of it is. Of a timer: it is no more."""


@dataclass(frozen=True, repr=False)
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
        if "timer" in self.phase:
            raise TopologyError(
                "DeadLetter(phase='timer'): a timer is no record, so there is nothing to keep: give Skip()"
            )

    def fits(self, error: BaseException, phase: Phase) -> bool:
        return phase != "timer" and super().fits(error, phase)

    def dead_letters(self, app: str) -> str:
        return f"{app}-dead-letters" if self.topic is None else self.topic


@dataclass(frozen=True, repr=False)
class Retry(Policy):
    """The record is tried again after a pause, up to `attempts` times; then the policies behind it decide.

    What comes behind it in its partition waits, so the order is kept; other partitions go on. The n-th pause is
    max(base, min(base x multiplier^n +- jitter, max)), as in Flink's exponential-delay restart strategy. After a crash
    the count begins anew.

    Without `on` and `phase` it is for what may pass: user code that raises (`process`, `timer`), what Kafka refuses
    (`produce`), and every `kstream.Retryable`. It is never for a `kstream.NonRetryable`. Where a timer is tried again,
    its task waits.

    Args:
        attempts: after the first one.
        base: seconds before the first of them, and the shortest pause.
        max: the longest pause (seconds).
        multiplier: by which the pauses grow.
        jitter: the part of a pause by which it is longer or shorter at random.

    Raises:
        TopologyError: a value is not acceptable.
    """

    attempts: int = 3
    base: float = 1.0
    max: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong: str | None = None
        if not _is_number(self.attempts) or self.attempts < 1 or self.attempts != int(self.attempts):
            wrong = f"attempts={self.attempts!r}: a whole number, at least 1"
        elif not _is_number(self.base) or self.base < 0:
            wrong = f"base={self.base!r}: seconds, not negative"
        elif not _is_number(self.max) or self.max < self.base:
            wrong = f"max={self.max!r}: seconds, not less than base={self.base!r}"
        elif not _is_number(self.multiplier) or self.multiplier < 1:
            wrong = f"multiplier={self.multiplier!r}: at least 1"
        elif not _is_number(self.jitter) or not 0 <= self.jitter < 1:
            wrong = f"jitter={self.jitter!r}: from 0 to less than 1"
        if wrong is not None:
            raise TopologyError(f"Retry({wrong})")
        _check_retryable(self)

    def fits(self, error: BaseException, phase: Phase) -> bool:
        return _may_pass(self, error, phase) and super().fits(error, phase)

    def pauses(self) -> Pauses:
        """Of one record. They are `exhausted` when all attempts were made."""
        return Pauses(self.base, self.multiplier, self.max, jitter=self.jitter, attempts=self.attempts)


@dataclass(frozen=True, repr=False)
class RetryLater(Policy):
    """The record is set aside, and processed again after a delay; what comes behind it goes on meanwhile.

    So the order of the records is NOT kept, not even of those with one key. The record goes into a delay topic of the
    app, in the transaction that commits its offset. When it has been there for as long as the delay says it is
    processed again, as a record of its own topic. Where it fails after the last delay, the policies behind this one
    decide.

    Which delay comes next is counted for each record, whichever `RetryLater` set it aside before, and survives crashes.
    For what it is without `on` and `phase`, and never, is as for `Retry`. With `at_least_once` a record may be set
    aside, and processed, twice.

    Args:
        delays: seconds; of each first, second, ... time that the record is set aside.

    Raises:
        TopologyError: a delay is no number of seconds, or `phase` has "restore": what is stored stays as it is.
    """

    delays: Sequence[float] = (5.0, 60.0, 600.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        given: Any = self.delays
        if not isinstance(given, list | tuple) or not given:
            raise TopologyError(f"RetryLater(delays={given!r}): give a list of seconds")
        for one in given:
            in_range = _is_number(one) and SHORTEST_DELAY <= one <= LONGEST_DELAY
            if not in_range or abs(one * 1000 - round(one * 1000)) > 1e-6:
                raise TopologyError(
                    f"RetryLater: a delay of {one!r}: seconds, from 0.001 to 31536000 (a year), in whole milliseconds"
                )
        if "timer" in self.phase:
            raise TopologyError("RetryLater(phase='timer'): a timer is no record that could be set aside: give Retry()")
        if "restore" in self.phase:
            raise TopologyError(
                "RetryLater(phase='restore'): an entry of a table that cannot be read stays so, and the key's next "
                "records fail too: give Fail() or DeadLetter()"
            )
        _check_retryable(self)
        object.__setattr__(self, "delays", tuple(float(one) for one in given))

    def fits(self, error: BaseException, phase: Phase) -> bool:
        return phase not in ("restore", "timer") and _may_pass(self, error, phase) and super().fits(error, phase)


SHORTEST_DELAY: Final = 0.001
LONGEST_DELAY: Final = 365 * 86_400.0


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _told(value: Any) -> str:
    """As it is written in code."""
    if isinstance(value, type):
        return value.__name__
    if not isinstance(value, tuple):
        return repr(value)
    return f"({', '.join(map(_told, value))}{',' if len(value) == 1 else ''})"


def _classes(policy: Policy) -> Classes:
    return policy.on if isinstance(policy.on, tuple) else (policy.on,)


def _may_pass(policy: Policy, error: BaseException, phase: Phase) -> bool:
    """Whether it may end otherwise the next time; what was declared with the policy says so itself."""
    if _is_any(error, (NonRetryable,)):
        return False
    return bool(policy.on or policy.phase) or phase in MAY_PASS or _is_any(error, (Retryable,))


def _check_retryable(policy: Policy) -> None:
    """Raises TopologyError where it is only for what is never tried again: it would never decide."""
    classes = _classes(policy)
    if classes and all(issubclass(one, NonRetryable) for one in classes):
        raise TopologyError(
            f"{policy!r} can never decide: {classes[0].__name__} is a kstream.NonRetryable, which is never tried again"
        )


def _is_any(error: BaseException | None, kinds: Classes) -> bool:
    """Whether it is one of these, was raised from one, or is a group of exceptions in which one is. What it was raised
    from may lead back to it."""
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        if isinstance(one, kinds):
            return True
        seen.add(id(one))
        left.append(one.__cause__)
        if isinstance(one, BaseExceptionGroup):
            left += one.exceptions
    return False


def check_policies(policies: Sequence[Any], where: str = "on_error") -> tuple[Policy, ...]:
    """Raises TopologyError where one is no policy, or can never decide because those before it do."""
    if not isinstance(policies, list | tuple):
        raise TopologyError(f"{where}={policies!r}: give a list of policies, as in [Retry(3), DeadLetter()]")
    before: list[Policy] = []
    for one in policies:
        if not isinstance(one, Fail | Skip | DeadLetter | Retry | RetryLater):
            raise TopologyError(
                f"{where}: {one!r} is no policy: give Retry(), RetryLater(), DeadLetter(), Skip() or Fail()"
            )
        for other in before:
            if not isinstance(other, Retry | RetryLater) and _covers(other, one):
                raise TopologyError(f"{where}: {one!r} can never decide, because {other!r} comes before it")
            if isinstance(other, Retry) and other == one:
                raise TopologyError(f"{where}: {one!r} is there twice: give one of them more attempts=")
            if isinstance(other, RetryLater) and isinstance(one, RetryLater) and _same(other, one):
                raise TopologyError(
                    f"{where}: {one!r} comes behind {other!r}, which is for all that it is for: give one all delays"
                )
        before.append(one)
    return tuple(before)


def _same(other: RetryLater, one: RetryLater) -> bool:
    """Whether `other` is for everything that `one` is for: without `on` and `phase` it is not for all."""
    if not other.on and not other.phase:
        return not one.on and not one.phase
    return _covers(other, one)


def _covers(other: Policy, one: Policy) -> bool:
    """Whether `other` is for everything that `one` is for. A dead letter is for no timer."""
    if isinstance(other, DeadLetter) and "timer" in one.phase:
        return False
    phases = not other.phase or (bool(one.phase) and set(one.phase) <= set(other.phase))
    classes = not other.on or (bool(one.on) and all(issubclass(kind, other.on) for kind in _classes(one)))
    return phases and classes


def marks_topic(app: str) -> str:
    """Where `kstream dlq` marks which dead letters are handled."""
    return own_topic(app, "dead-letters-handled")


def dead_letter_topics(policies: Iterable[Policy], app: str, declared: Collection[str]) -> dict[str, Topic[Any, Any]]:
    """The topics of dead letters that are not declared, by name: keys and values are bytes.

    Raises:
        TopologyError: the app keeps its own data in one of them.
    """
    names = dict.fromkeys(name for one in policies if (name := one.dead_letters(app)) is not None)
    for name in own_topics(app).intersection(names):
        raise TopologyError(f"DeadLetter({name!r}): the app keeps its own data there: take another name")
    return {
        name: Topic(name, schema(bytes, name, key=True), schema(bytes, name)) for name in names if name not in declared
    }
