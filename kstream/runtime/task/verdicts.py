"""What was decided about records that failed, until their offsets are committed.

Nothing of this survives a restart: the record fails anew then, and its policies decide anew.
"""

from __future__ import annotations

import linecache
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from operator import le
from types import CodeType
from typing import Final

from msgspec import structs

from kstream.backoff import Pauses
from kstream.errors import ProcessingError, RecordRefused, text_of
from kstream.operators.delayed import Note
from kstream.operators.origin import Origin
from kstream.operators.writer import Writer
from kstream.runtime.task.blame import cause_of, kind_of
from kstream.specs.policy import Retry
from kstream.specs.stored import LETTERS
from kstream.types import Fetch, TopicPartition

PREFIX = "__streams.errors."
"""Of the headers that Kafka Streams gives a dead letter (KIP-1034)."""
OWN = tuple(
    f"kstream.{name}"
    for name in (
        "letter", "app", "task", "agent", "phase", "attempts", "time", "result", "result.step", "result.key",
        "result.value",
    )
)  # fmt: skip
LONGEST = 32_768
"""Characters of a message or stack trace: a header counts towards the size that Kafka takes."""
SHORTENED: Final = (f"{PREFIX}stacktrace", f"{PREFIX}message")
"""Headers that a letter which is too large does without, the first of them first."""
TOO_LARGE: Final = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE")
"""Kafka's names for that."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record is left out. `topic` is where it is written to instead, None is nowhere; `headers` are those of a dead
    letter, `note` that of a record which is set aside, and processed again later. `source` is the topic it is from,
    `reason` the class of what was raised."""

    topic: str | None
    source: str
    reason: str
    headers: tuple[tuple[str, bytes], ...] = ()
    note: Note | None = None
    result: tuple[bytes | None, bytes | None, int] | None = None
    """Of a result (told.py): key, value and time of its letter."""

    def write(self, record: Fetch, writer: Writer) -> None:
        """A fetch of one record, to its topic: key, value, timestamp and headers as they are, and why."""
        if self.topic is None:
            return
        (key,), (value,), (timestamp,), (own,) = (
            record.keys(), record.values(), record.timestamps(), record.headers(),
        )  # fmt: skip
        kept, timestamp = timestamp, max(timestamp, 1)  # 0 is "now" to Kafka's client, and less is none
        headers: list[tuple[str, bytes | None]]
        if self.note is not None:
            note = self.note if kept == timestamp else structs.replace(self.note, timestamp=kept)
            headers, partition = [*(own or ()), note.header()], record.at.partition
        else:
            of_others = [one for one in own or () if not one[0].startswith(PREFIX) and one[0] not in OWN]
            headers, partition = [*of_others, *self.headers], -1
        writer.one(0, 0, self.topic, value, key, timestamp, headers, partition)
        writer.release()

    def write_result(self, origin: Origin, row: int, writer: Writer) -> None:
        """A result that nothing was done with: its dead letter, where there is one, in its place."""
        if self.topic is None or self.result is None:
            return
        key, value, timestamp = self.result
        (place,) = origin.places_of((row,))
        cause = origin, row
        writer.one(0, place, self.topic, value, key, max(timestamp, 1), list(self.headers), -1, cause)

    def smaller(self, refusal: BaseException | None) -> LeftOut | None:
        """With one header less, where the letter was refused because it was too large; None where that is not why, or
        all that could be left out has been."""
        while refusal is not None and not isinstance(refusal, RecordRefused):
            refusal = refusal.__cause__
        if refusal is None or refusal.topic != self.topic or refusal.code not in TOO_LARGE:
            return None
        for name in SHORTENED:
            if any(name == one for one, _ in self.headers):
                return replace(self, headers=tuple(header for header in self.headers if header[0] != name))
        return None


@dataclass(slots=True)
class Again:
    """A record is tried again. `due` is when (monotonic), `failed` how often it has failed, `pauses` those of each
    policy that had it tried again."""

    due: float = 0.0
    failed: int = 0
    pauses: dict[Retry, Pauses] = field(default_factory=dict)

    def after(self, policy: Retry, now: float) -> float | None:
        """The pause before the next try that this policy makes (s), from now on (monotonic); None: it makes no more."""
        pauses = self.pauses.setdefault(policy, policy.pauses())
        self.due = pauses.failed(now)
        return None if pauses.exhausted else pauses.pause


Verdict = LeftOut | Again


def dead_letter(
    topic: str,
    app: str,
    error: ProcessingError,
    where: Note,
    *,
    agent: str,
    phase: str,
    reason: str,
    attempts: int,
    now: float,
) -> LeftOut:
    """The verdict on a record that failed so.

    Args:
        where: it lies, or lay before it was set aside.
        agent: the step or agent at which it failed, as metrics call it.
        reason: as metrics call it, too.
        attempts: how often it has failed.
        now: the wall clock.
    """
    lies = {
        f"{PREFIX}topic": where.topic,
        f"{PREFIX}partition": str(where.partition),
        f"{PREFIX}offset": str(where.offset),
    }
    headers = headers_of(cause_of(error), lies, app, error.task, agent=agent, phase=phase, attempts=attempts, now=now)
    return LeftOut(topic, error.topic, reason, headers)


def headers_of(
    cause: BaseException,
    lies: Mapping[str, str],
    app: str,
    task: str,
    *,
    agent: str,
    phase: str,
    attempts: int,
    now: float,
) -> tuple[tuple[str, bytes], ...]:
    """Of a dead letter; `lies` are those that say what it is about."""
    kind = kind_of(cause)
    said = {
        f"{PREFIX}exception": f"{kind.__module__}.{kind.__qualname__}",
        f"{PREFIX}message": text_of(cause)[:LONGEST],
        f"{PREFIX}stacktrace": stack_of(cause)[-LONGEST:],
        **lies,
        "kstream.letter": str(LETTERS.number),
        "kstream.app": app,
        "kstream.task": task,
        "kstream.agent": agent,
        "kstream.phase": phase,
        "kstream.attempts": str(attempts),
        "kstream.time": str(int(now * 1000)),
    }
    return tuple((name, text.encode(errors="backslashreplace")) for name, text in said.items())


def stack_of(error: BaseException) -> str:
    """As Python's traceback module writes it; that looks at the files each time, and takes a millisecond."""
    lines: list[str] = []
    left, seen = [("", error)], {id(error)}
    while left:
        how, one = left.pop()
        lines.append(f"{how}{type(one).__qualname__}: {text_of(one)}\n")
        trace = one.__traceback__
        while trace is not None:
            lines.append(_place(trace.tb_frame.f_code, trace.tb_lineno))
            trace = trace.tb_next
        cause = one.__context__ if one.__cause__ is None and not one.__suppress_context__ else one.__cause__
        inside = one.exceptions if isinstance(one, BaseExceptionGroup) else ()
        others = [*(("Of them ", each) for each in inside), *([] if cause is None else [("Caused by ", cause)])]
        left += [other for other in reversed(others) if id(other[1]) not in seen]
        seen |= {id(other) for _, other in others}
    return "".join(lines)


@lru_cache(maxsize=1000)
def _place(code: CodeType, line: int) -> str:
    source = linecache.getline(code.co_filename, line).strip()
    said = f'  File "{code.co_filename}", line {line}, in {code.co_name}\n'
    return f"{said}    {source}\n" if source else said


class Verdicts:
    """Those of one task. False while there is none. A record that is only suspected has one too: `Again()`."""

    def __init__(self) -> None:
        self._on: dict[TopicPartition, dict[int, Verdict]] = {}
        self._offsets: dict[TopicPartition, list[int]] = {}  # the same, sorted

    def __bool__(self) -> bool:
        return bool(self._on)

    def add(self, at: TopicPartition, offset: int, verdict: Verdict) -> None:
        of = self._on.setdefault(at, {})
        if offset not in of:
            insort(self._offsets.setdefault(at, []), offset)
        of[offset] = verdict
        if isinstance(verdict, LeftOut):
            offsets = self._offsets[at]
            for later in offsets[bisect_left(offsets, offset) + 1 :]:
                self._doubt(of, later)

    def stands(self, at: TopicPartition, offset: int, verdict: Verdict) -> None:
        """The batch is through without the record: what is left out of it before that did nothing to it."""
        self._on[at][offset] = verdict

    def doubt_others(self, at: TopicPartition) -> None:
        """Those on records of the other inputs."""
        for other, of in self._on.items():
            for offset in of if other != at else ():
                self._doubt(of, offset)

    def _doubt(self, of: dict[int, Verdict], offset: int) -> None:
        """The record failed with what is left out now before it: whether it does without that is to be seen."""
        if isinstance(of[offset], LeftOut):
            of[offset] = Again()

    def of(self, at: TopicPartition, offset: int) -> Verdict | None:
        return self._on.get(at, {}).get(offset)

    def sound(self, fetch: Fetch) -> int:
        """So many of its records, the first ones, have no verdict."""
        offsets = self._offsets.get(fetch.at, ())
        place = bisect_left(offsets, fetch.first_offset)
        if place == len(offsets) or offsets[place] > fetch.last_offset:
            return len(fetch)
        return bisect_left(fetch.offsets(), offsets[place])

    def forget(self, at: TopicPartition, offset: int) -> None:
        self._keep(at, lambda one: one != offset)

    def committed(self, positions: Mapping[TopicPartition, int]) -> list[LeftOut]:
        """What lies before these is over. Returns what is left out of it, for good now."""
        done = [
            one
            for at, of in self._on.items()
            for offset, one in of.items()
            if offset < positions[at] and isinstance(one, LeftOut)
        ]
        for at in list(self._on):
            self._keep(at, partial(le, positions[at]))
        return done

    def _keep(self, at: TopicPartition, wanted: Callable[[int], bool]) -> None:
        kept = {offset: one for offset, one in self._on.get(at, {}).items() if wanted(offset)}
        self._on.pop(at, None)
        if kept:
            self._on[at] = kept
        self._offsets[at] = sorted(kept)
