"""Which dead letters are meant, and where they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from kstream.cli.data.reading import clients_of
from kstream.cli.operate import Subject
from kstream.cli.table import progress
from kstream.codecs.text import milliseconds
from kstream.errors import UsageError
from kstream.runtime.cluster.dead_letters import Filter, Letter, Place, Span, letter_topics, place_of, scan, span_of
from kstream.runtime.cluster.handled import Handled, read_handled
from kstream.specs.policy import PHASES, DeadLetter
from kstream.types import AdminClient, Clients


@dataclass(frozen=True)
class Wanted:
    """The options that choose dead letters, as they were given. Of one that is repeated, any fits."""

    topic: str | None = None
    reasons: Sequence[str] = ()
    agents: Sequence[str] = ()
    phases: Sequence[str] = ()
    sources: Sequence[str] = ()
    since: str | None = None
    until: str | None = None
    letters: Sequence[str] = ()


@dataclass(frozen=True)
class Found:
    """Dead letters of an app on a cluster.

    Attributes:
        skipped: letters that fit and belong to other apps, by app: a topic may be shared.
    """

    clients: Clients
    admin: AdminClient
    spans: Sequence[Span]
    filter: Filter
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def several(self) -> bool:
        return len(self.spans) > 1

    def handled(self) -> Handled:
        with progress("reading what is handled") as on_progress:
            return read_handled(self.clients, self.admin, self.filter.app, on_progress)

    def letters(self, *, anybodys: bool = False) -> Iterator[tuple[Span, Letter]]:
        """Those that are wanted, handled or not, each partition in its order; with `anybodys` of other apps too."""
        for span in self.spans:
            with progress(f"reading {span.topic}") as on_progress:
                for letter in scan(self.clients, self.admin, span, self.filter.places, on_progress):
                    if not self.filter.wants(letter):
                        continue
                    if anybodys or self.filter.is_ours(letter):
                        yield span, letter
                    else:
                        self.skipped[letter.app or ""] += 1

    def check_places(self) -> None:
        """Raises UsageError where one of those that were named is not there, or is another app's."""
        if self.filter.places is None:
            return
        missing = self.filter.places - {letter.place for _, letter in self.letters()}
        if self.skipped:
            raise UsageError(
                f"a dead letter of app {next(iter(self.skipped))} is among them: give the command that app"
            )
        if missing:
            raise UsageError(f"there is no dead letter {', '.join(map(self.name, sorted(missing)))}")

    def name(self, place: Place) -> str:
        """As it can be given to the commands: with its topic where there are several."""
        return str(place) if self.several else f"{place.partition}:{place.offset}"


@contextmanager
def finding(on: Subject, wanted: Wanted) -> Iterator[Found]:
    """Looks where the dead letters are.

    Raises:
        UsageError: the app has none, a topic is not there, an option makes no sense. KafkaUnavailable: no answer.
    """
    assert on.app is not None
    topics = [wanted.topic] if wanted.topic is not None else letter_topics(on.app.topology())
    if not topics:
        raise UsageError(
            f"app {on.app.name} has no policy that writes dead letters (on_error=[kstream.DeadLetter()]): --topic "
            f"names a topic of others, or of a policy that it had (--topic {DeadLetter().dead_letters(on.app.name)})"
        )
    for phase in wanted.phases:
        if phase not in PHASES:
            raise UsageError(f"--phase {phase}: there is no such phase; the phases are {', '.join(PHASES)}")
    places = frozenset(place_of(text, topics) for text in wanted.letters) or None
    chosen = Filter(
        on.app.name,
        frozenset(wanted.reasons),
        frozenset(wanted.agents),
        frozenset(wanted.phases),
        frozenset(wanted.sources),
        None if wanted.since is None else milliseconds(wanted.since, "--since"),
        None if wanted.until is None else milliseconds(wanted.until, "--until"),
        places,
    )
    clients = clients_of(on)
    with closing(clients.admin()) as admin:
        yield Found(clients, admin, [span_of(admin, topic) for topic in topics], chosen)
