"""`kstream dlq replay` and `purge`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from contextlib import closing
from typing import Final

from rich.text import Text

from kstream.cli import human
from kstream.cli.dlq.finding import Found, Wanted, finding
from kstream.cli.meant import agreed
from kstream.cli.operate import Subject
from kstream.cli.table import progress
from kstream.errors import KafkaUnavailable, KStreamError, UsageError
from kstream.escape import escaped
from kstream.runtime.cluster.dead_letters import letter_topics, source_topics
from kstream.runtime.cluster.handled import Handled
from kstream.runtime.cluster.records import TIMEOUT
from kstream.runtime.cluster.replaying import Handling, Outcome
from kstream.runtime.cluster.routes import Routes
from kstream.specs.policy import marks_topic
from kstream.types import TopicPartition

log = logging.getLogger(__name__)

TOLD: Final = 20
"""Letters that are named of those that were left for one reason."""


def replay(on: Subject, wanted: Wanted, to: str | None, *, dry_run: bool) -> int:
    """The command. Returns 1 when letters that were wanted could not be written back, else 0.

    Raises:
        UsageError: there is no such topic or letter, or another one has taken over. KafkaUnavailable.
    """
    assert on.app is not None
    topology = on.app.topology()
    with finding(on, wanted) as found:
        partitions = {name: info.partitions for name, info in found.admin.topics(TIMEOUT).items()}
        if to is not None:
            _check_to(to, partitions, [marks_topic(on.app.name), *letter_topics(topology)], on.servers)
        found.check_places()
        inputs = source_topics(topology)
        targets = [name for name in ([to] if to is not None else inputs) if name in partitions]
        routes = Routes(inputs, partitions, to, _configs(found, targets), time.time(), _ids(found, targets))
        if dry_run:
            human.console().print(preview(found, found.handled(), routes), soft_wrap=True)
            return 0
        with closing(Handling(found.clients, found.admin, on.app.name)) as handling:
            with progress("reading what is handled") as on_progress:
                handling.start(on.settings.replication_factor, on_progress)
            outcome = handling.replay(found.letters(), routes)
        human.console().print(screen(found, outcome), soft_wrap=True)
    return 1 if outcome.left else 0


def _configs(found: Found, topics: list[str]) -> dict[str, dict[str, str]]:
    """Kafka's settings of these topics; none where this user may not see them."""
    try:
        return found.admin.topic_configs(topics, TIMEOUT) if topics else {}
    except KStreamError as error:  # whatever the brokers say; it is a look ahead only
        log.debug("the retention of %s cannot be read: %s", ", ".join(topics), error)
        return {}


def _ids(found: Found, topics: list[str]) -> dict[str, str]:
    """Raises KafkaUnavailable: no answer in time."""
    try:
        described = found.admin.describe(topics).result(TIMEOUT)
    except TimeoutError:
        raise KafkaUnavailable("the topics of the records cannot be looked at: try again") from None
    return {name: one.id for name, one in described.items() if one.id is not None}


def _check_to(to: str, partitions: dict[str, int], ours: list[str], servers: str) -> None:
    if to not in partitions:
        raise UsageError(f"--to {to}: there is no such topic at {servers}")
    if to in ours:
        raise UsageError(f"--to {to}: dead letters and what is known of them are kept there; name another topic")


def purge(on: Subject, wanted: Wanted, *, dry_run: bool, yes: bool) -> int:
    """The command. Returns 1 when it was not agreed to, or letters could not be deleted, else 0.

    Raises:
        UsageError: there is no such topic or letter, another one has taken over, or nobody is there to be asked.
    """
    assert on.app is not None
    with finding(on, wanted) as found:
        found.check_places()
        out = human.console()
        if dry_run or not yes:
            out.print(preview(found, found.handled(), None), soft_wrap=True)
        if dry_run:
            return 0
        if not yes and not agreed("Give these records up?"):
            return 1
        with closing(Handling(found.clients, found.admin, on.app.name)) as handling:
            with progress("reading what is handled") as on_progress:
                handling.start(on.settings.replication_factor, on_progress)
            outcome = handling.purge(found.letters())
            out.print(screen(found, outcome), soft_wrap=True)
            return _delete(found, handling)


def _delete(found: Found, handling: Handling) -> int:
    status = 0
    for span in found.spans:
        try:
            with progress(f"looking through {span.topic}") as on_progress:
                deleted = handling.delete_handled(span, found.filter, on_progress)
        except UsageError as error:
            human.complain(f"{span.topic}: nothing was deleted: {error}")
            status = 1
            continue
        for at, offset in sorted(deleted.items()):
            human.console().print(Text(f"deleted what is before offset {offset:,} of {at}"))
    return status


# ---- how it looks


def preview(found: Found, handled: Handled, routes: Routes | None) -> Text:
    """What would be done with the letters that are not handled yet, by topic; routes None is a purge."""
    counts, left, before = Counter[str](), Counter[str](), 0
    for span, letter in found.letters():
        if handled.of(letter, span) is not None:
            before += 1
            continue
        if routes is None:
            counts[letter.reason] += 1
            continue
        to = routes.of(letter)
        if isinstance(to, TopicPartition):
            counts[to.topic] += 1
        else:
            left[to] += 1
    text = Text()
    for name, count in counts.most_common():
        text.append(f"would {'give up' if routes is None else 'replay'} {human.plural(count, 'dead letter')}")
        text.append(escaped(f" of {name}" if routes is None else f" to {name}") + "\n")
    if not counts:
        text.append(f"nothing to {'give up' if routes is None else 'replay'}\n")
    for why, count in left.most_common():
        text.append(escaped(f"would leave {human.plural(count, 'dead letter')}: {why}") + "\n", style="yellow")
    if before:
        text.append(f"{human.plural(before, 'dead letter')} handled before\n", style="dim")
    _others(found, text)
    text.right_crop(1)
    return text


def screen(found: Found, outcome: Outcome) -> Text:
    text = Text()
    for topic, count in sorted(outcome.replayed.items()):
        text.append(escaped(f"replayed {human.plural(count, 'dead letter')} to {topic}") + "\n", style="green")
    if outcome.again:
        text.append(f"{human.plural(outcome.again, 'dead letter')} about records that were replayed with another one\n")
    if outcome.purged:
        text.append(f"gave up {human.plural(outcome.purged, 'dead letter')}\n", style="green")
    if not (outcome.replayed or outcome.again or outcome.purged or outcome.left):
        text.append("nothing to do\n")
    if outcome.before:
        text.append(f"{human.plural(outcome.before, 'dead letter')} handled before\n", style="dim")
    for why, places in outcome.left.items():
        names = ", ".join(map(found.name, places[:TOLD])) + (", ..." if len(places) > TOLD else "")
        text.append(escaped(f"left {human.plural(len(places), 'dead letter')}: {why} ({names})") + "\n", style="red")
    _others(found, text)
    text.right_crop(1)
    return text


def _others(found: Found, text: Text) -> None:
    for app, count in found.skipped.items():
        text.append(escaped(f"{human.plural(count, 'dead letter')} of app {app} left out") + "\n", style="dim")
    found.skipped.clear()
