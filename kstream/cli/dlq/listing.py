"""`kstream dlq list` and `show`."""

from __future__ import annotations

import heapq
import os
import sys
from collections import Counter
from typing import Any, Final

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from kstream.cli import human
from kstream.cli.dlq.finding import Found, Wanted, finding
from kstream.cli.operate import Subject
from kstream.codecs.text import Decoded, decoded, moment
from kstream.errors import UsageError
from kstream.escape import escaped
from kstream.runtime.cluster.dead_letters import Letter, place_of, source_topics
from kstream.runtime.cluster.handled import Mark
from kstream.specs.schema import schema
from kstream.specs.topic import Topic

COUNT: Final = 50
MESSAGE: Final = 60
"""Letters of a message in the table; a key has half of it."""

_BYTES: Final = schema(bytes, "a dead letter").codec

Topics = dict[str, Topic[Any, Any]]


class Shown(msgspec.Struct, omit_defaults=True):
    """A dead letter as --json writes it; times are ms since the epoch. `undecodable` is as in `kstream tail`."""

    topic: str
    partition: int
    offset: int
    time: int
    timestamp: int
    key: Any
    value: Any
    headers: list[tuple[str, str | None]]
    app: str | None = None
    task: str | None = None
    agent: str | None = None
    phase: str | None = None
    attempts: int | None = None
    exception: str | None = None
    message: str | None = None
    stacktrace: str | None = None
    source: dict[str, Any] | None = None
    result: dict[str, str | None] | None = None
    replays: int = 0
    handled: Mark | None = None
    undecodable: dict[str, str] = {}


def run(on: Subject, wanted: Wanted, *, count: int | None, everything: bool, as_json: bool) -> int:
    """The command.

    Raises:
        UsageError, KafkaUnavailable.
    """
    assert on.app is not None
    topics = source_topics(on.app.topology())
    with finding(on, wanted) as found:
        handled = found.handled()
        hidden, reasons = 0, Counter[tuple[str, str]]()
        latest: list[tuple[int, int, Letter, Mark | None]] = []
        try:
            for number, (span, letter) in enumerate(found.letters()):
                mark = handled.of(letter, span)
                if mark is not None and not everything:
                    hidden += 1
                    continue
                reasons[letter.reason, _from(letter)] += 1
                if as_json and count is None:
                    _write(shown(letter, topics, mark))
                    continue
                heapq.heappush(latest, (letter.time, number, letter, mark))
                if len(latest) > (count or COUNT):
                    heapq.heappop(latest)
            latest.sort(key=lambda one: one[:2])
            if as_json:
                for _, _, letter, mark in latest:
                    _write(shown(letter, topics, mark))
            else:
                rows = [(letter, mark) for _, _, letter, mark in latest]
                human.console().print(screen(found, on, rows, reasons, hidden, topics))
        except BrokenPipeError:  # who reads has seen enough; Python would complain at its exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def show(on: Subject, text: str, topic: str | None, *, as_json: bool) -> int:
    """The command.

    Raises:
        UsageError: there is no such letter. KafkaUnavailable: no answer in time.
    """
    assert on.app is not None
    topics = source_topics(on.app.topology())
    with finding(on, Wanted(topic, letters=[text])) as found:
        handled = found.handled()
        letters = list(found.letters(anybodys=True))
        if not letters:
            place = place_of(text, [span.topic for span in found.spans])
            raise UsageError(f"there is no dead letter {found.name(place)}")
        ((span, letter),) = letters
        mark = handled.of(letter, span)
    if as_json:
        _write(shown(letter, topics, mark))
    else:
        human.console().print(everything_of(letter, topics, mark), soft_wrap=True)
    return 0


def sides_of(letter: Letter, topics: Topics) -> tuple[Decoded, Decoded]:
    """Key and value, as the app reads the topic that they come from; else as bytes."""
    topic = None if letter.source is None else topics.get(letter.source.topic)
    key, value = (_BYTES, _BYTES) if topic is None else (topic.key.codec, topic.value.codec)
    if topic is None and letter.row.value is None:
        return decoded(key, letter.row.key, key=True), Decoded(None, "null")
    return decoded(key, letter.row.key, key=True), decoded(value, letter.row.value)


def _write(one: Shown) -> None:
    human.write_json(one, indented=False)


def shown(letter: Letter, topics: Topics, mark: Mark | None) -> Shown:
    key, value = sides_of(letter, topics)
    sides = {"key": key, "value": value}
    return Shown(
        *letter.place,
        letter.time,
        letter.row.timestamp,
        key.plain,
        value.plain,
        _texts(letter),
        letter.app,
        letter.task,
        letter.agent,
        letter.phase,
        letter.attempts,
        letter.exception,
        letter.message,
        letter.stacktrace,
        None if letter.source is None else letter.source._asdict(),
        None if letter.result is None else {"of": letter.result, "step": letter.of_step, "key": letter.of_key},
        letter.replays,
        mark,
        {name: side.error for name, side in sides.items() if side.error is not None},
    )


def _texts(letter: Letter) -> list[tuple[str, str | None]]:
    return [
        (name, None if value is None else value.decode("utf-8", "backslashreplace")) for name, value in letter.headers
    ]


# ---- how it looks


def screen(
    found: Found,
    on: Subject,
    rows: list[tuple[Letter, Mark | None]],
    reasons: Counter[tuple[str, str]],
    hidden: int,
    topics: Topics,
) -> RenderableType:
    """The letters, then how many there are by reason and topic."""
    total = reasons.total()
    names = ", ".join(span.topic for span in found.spans)
    lines: list[RenderableType] = [Text(escaped(f"{names} on {on.servers}"), style="bold"), ""]
    if rows:
        lines += [table(found, rows, topics), ""]
        summary = human.table(">LETTERS", "EXCEPTION", "FROM")
        for (reason, source), count in reasons.most_common():
            summary.add_row(f"{count:,}", human.cut(reason, MESSAGE), source)
        lines += [summary, ""]
    told = human.plural(total, "dead letter")
    if total > len(rows):
        told += f", the latest {len(rows):,} are shown (--count)"
    lines.append(Text(told, style="bold"))
    if hidden:
        lines.append(Text(f"{hidden:,} more {'is' if hidden == 1 else 'are'} handled (--all shows them)", style="dim"))
    for app, count in found.skipped.items():
        lines.append(Text(f"{count:,} of app {app} are left out", style="dim"))
    return Group(*lines)


def table(found: Found, rows: list[tuple[Letter, Mark | None]], topics: Topics) -> RenderableType:
    marks = any(mark is not None for _, mark in rows)
    made = human.table(
        "LETTER", "FAILED AT", "FROM", "STEP", "PHASE", ">TRIES", ">REPLAYS", "EXCEPTION", "MESSAGE", "KEY",
        *(["HANDLED"] if marks else []),
    )  # fmt: skip
    made.columns[0].no_wrap = True  # it is what the other commands take
    for letter, mark in rows:
        key, _ = sides_of(letter, topics)
        made.add_row(
            found.name(letter.place),
            moment(letter.time),
            source_of(letter),
            letter.agent or "-",
            letter.phase or "-",
            "-" if letter.attempts is None else str(letter.attempts),
            str(letter.replays or "-"),
            human.cut(escaped(letter.reason), MESSAGE),
            _cut(letter.message or "-", MESSAGE),
            _cut(letter.of_key or key.text, MESSAGE // 2),
            *([] if not marks else ["-" if mark is None else mark.what]),
        )
    return made


def source_of(letter: Letter) -> str:
    """topic[partition] offset, as error messages have it."""
    source = letter.source
    if letter.result is not None:
        return f"a result of {letter.of_step or '?'}"
    if source is None:
        return "?"
    return source.topic if source.offset < 0 else f"{source.at} {source.offset}"


def _from(letter: Letter) -> str:
    """The topic that the record comes from, for the sums."""
    if letter.result is not None:
        return source_of(letter)
    return "-" if letter.source is None else letter.source.topic


def _cut(text: str, most: int) -> str:
    """The beginning of a text, in one line."""
    line = escaped(" ".join(text[: 4 * most].split()))
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"


def everything_of(letter: Letter, topics: Topics, mark: Mark | None) -> RenderableType:
    key, value = sides_of(letter, topics)
    rows = {
        "letter": str(letter.place),
        "handled": _handled(mark),
        "failed at": moment(letter.time),
        "from": source_of(letter),
        "result": letter.result,
        "result's key": letter.of_key,
        "app": letter.app,
        "task": letter.task,
        "step": letter.agent,
        "phase": letter.phase,
        "tries": None if letter.attempts is None else str(letter.attempts),
        "replays before": str(letter.replays) if letter.replays else None,
        "exception": letter.exception,
        "message": letter.message,
        "timestamp": moment(letter.row.timestamp),
    }
    text = Text()
    for name, words in rows.items():
        if words is not None:
            text.append(f"{name:<15}", style="dim")
            text.append(f"{escaped(words)}\n")
    for name, side in (("key", key), ("value", value)):
        text.append(f"{name:<15}", style="dim")
        text.append(side.text)
        if side.error is not None:
            text.append(f"  cannot be decoded: {side.error}", style="red")
        text.append("\n")
    for name, said in _texts(letter):
        text.append(f"{'header':<15}", style="dim")
        text.append(escaped(f"{name}={said or ''}") + "\n")
    if letter.stacktrace:
        text.append("\n")
        text.append("\n".join(map(escaped, letter.stacktrace.rstrip().split("\n"))))
    else:
        text.right_crop(1)
    return text


def _handled(mark: Mark | None) -> str | None:
    if mark is None:
        return None
    to = f" to {mark.to}" if mark.to else ""
    return f"{mark.what}{to}, {moment(mark.at)}" if mark.v else "yes"
