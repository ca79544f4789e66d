"""The app's topics: present, fit for what it does with them, replicated as they should be, and open to us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kstream.cli import human
from kstream.cli.checks import Check, attempt
from kstream.cli.checks.cluster import grant
from kstream.cli.operate import Subject
from kstream.errors import KStreamError, TopicError, TopologyError
from kstream.runtime.cluster.announce import topic_of, wanted_topic
from kstream.runtime.cluster.fitting import misfits
from kstream.runtime.cluster.prepare import prepare_topics, short_retention, small_topics
from kstream.runtime.cluster.retention import mending
from kstream.runtime.cluster.stored_types import misfits_of
from kstream.runtime.cluster.topics import ensure_topics
from kstream.runtime.kafka.inspection import ClusterInspector
from kstream.topology import Topology
from kstream.types import AdminClient, NewTopic, TopicInfo, TopicMaker

TIMEOUT: Final = 15.0
_WHOLE: Final = frozenset({"READ", "WRITE", "DESCRIBE", "DESCRIBE_CONFIGS"})


class Pretending:
    """A `types.TopicMaker` that makes no topics but notes which it would have made."""

    def __init__(self, admin: TopicMaker) -> None:
        self.would_make: dict[str, NewTopic] = {}
        self._admin = admin

    def topics(self, timeout: float) -> dict[str, TopicInfo]:
        made = {name: TopicInfo(name, topic.partitions, topic.config) for name, topic in self.would_make.items()}
        return {**self._admin.topics(timeout), **made}

    def topic_configs(self, names: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
        there = self._admin.topic_configs([name for name in names if name not in self.would_make], timeout)
        return {**there, **{name: dict(self.would_make[name].config) for name in names if name in self.would_make}}

    def create_topics(self, topics: Sequence[NewTopic], timeout: float) -> None:
        self.would_make.update({topic.name: topic for topic in topics})


class Topics:
    """The checks, and `tasks`, how many there are (None while topics do not fit)."""

    def __init__(self, on: Subject, topology: Topology, inspector: ClusterInspector) -> None:
        self.tasks: int | None = None
        self._on, self._topology, self._inspector = on, topology, inspector

    def checks(self) -> Iterator[Check]:
        admin = self._on.clients.admin()
        try:
            pretending = Pretending(admin)
            fit = self._fit(pretending)
            yield fit
            if fit.state != "ok":
                return
            if pretending.would_make:
                yield attempt("missing topics", lambda: self._missing(list(pretending.would_make.values())), "")
            there = [name for name in self._counts if name not in pretending.would_make]
            yield self._kept(admin, there)
            yield self._large(admin, there)
            if any(part.stores for part in self._topology.parts):
                yield attempt("stored types", lambda: self._types(admin), "")
            yield from self._each(there, admin.topic_configs(there, TIMEOUT))
        except KStreamError as error:
            yield Check("topics", "unknown", " ".join(str(error).split()))
        finally:
            admin.close()

    def _fit(self, pretending: Pretending) -> Check:
        """As `kstream run` would see it: what there is, partition counts, settings of internal topics."""
        settings = self._on.settings
        try:
            self._counts = prepare_topics(self._topology, pretending, settings, TIMEOUT)
            if settings.announce_interval:
                wanted = [wanted_topic(self._topology.app)]
                self._counts |= ensure_topics(
                    pretending, wanted, auto_create=True, replication=settings.replication_factor, timeout=TIMEOUT
                )
        except (TopicError, TopologyError) as error:
            return Check(
                "topics", "error", " ".join(str(error).split()), "the app will not start before this is mended"
            )
        if refused := misfits(self._topology, self._counts):
            return Check("topics", "error", "; ".join(refused.values()), "the rest of the app runs without these tasks")
        self.tasks = sum(self._counts[part.topics[0]] for part in self._topology.parts)
        there = len(self._counts) - len(pretending.would_make)
        text = f"{human.plural(len(self._counts), 'topic')}, {there} there, fit for {human.plural(self.tasks, 'task')}"
        return Check("topics", "ok", text)

    def _missing(self, topics: Sequence[NewTopic]) -> Check:
        names = ", ".join(topic.name for topic in topics)
        refused = self._inspector.refusals(topics)
        if refused:
            name, why = next(iter(refused.items()))
            advice = f"make them by hand, set replication_factor, or: {grant('topic', name, ['CREATE'])}"
            return Check("missing topics", "error", f"{names}: cannot be made ({why})", advice)
        return Check("missing topics", "ok", f"{names}: will be made at start, the cluster agrees")

    def _kept(self, admin: TopicMaker, names: Sequence[str]) -> Check:
        """Whether output topics keep records for as long as their event times reach back."""
        lines = short_retention(self._topology, admin, names, TIMEOUT)
        if lines:
            return Check("retention", "warning", "; ".join(lines.values()), mending(next(iter(lines))))
        return Check("retention", "ok", "no output topic deletes records for their event times' sake")

    def _large(self, admin: TopicMaker, names: Sequence[str]) -> Check:
        """Whether changelogs and repartition topics take what we may send."""
        found = list(small_topics(self._topology, admin, names, self._on.settings, TIMEOUT).values())
        if found:
            return Check("internal record size", "warning", "; ".join(one.text for one in found), found[0].advice)
        return Check("internal record size", "ok", "changelogs and repartition topics take what we may send")

    def _types(self, admin: AdminClient) -> Check:
        """Whether the app's types read what its stores were written with: the start refuses others."""
        lines = misfits_of(self._topology, self._on.clients, admin)
        if not lines:
            return Check("stored types", "ok", "what stores hold can be read")
        if self._on.settings.changed_types == "continue":
            return Check("stored types", "warning", "; ".join(lines), "the app starts (changed_types=continue)")
        return Check("stored types", "error", "; ".join(lines), "the app will not start before this is mended")

    def _each(self, names: Sequence[str], configs: Mapping[str, Mapping[str, str]]) -> Iterator[Check]:
        """Replication of each topic and our rights, in one check each: only what is wrong is named."""
        wrong, weak, lacking = [], [], []
        for name in names:
            partitions, held = self._inspector.topic(name)
            least = int(configs.get(name, {}).get("min.insync.replicas", 1))
            replicas = min(each.replicas for each in partitions)
            headless = [each.number for each in partitions if each.leader is None]
            behind = [each.number for each in partitions if each.in_sync < each.replicas]
            short = [each.number for each in partitions if each.in_sync < least]
            if headless:
                wrong.append(f"{name}: no leader for {_numbers(headless)}")
            elif short:
                wrong.append(
                    f"{name}: {replicas} replicas, min.insync.replicas {least}: {_numbers(short)} refuse writes"
                )
            elif behind:
                weak.append(f"{name}: replicas out of sync for {_numbers(behind)}")
            elif 1 < replicas == least:
                weak.append(f"{name}: {replicas} replicas, all of them needed to write: no broker may fail")
            if missing := sorted(self._needed(name) - held):
                lacking.append((name, missing))
        yield _replication(wrong, weak, len(names))
        yield _rights(lacking, len(names))

    def _needed(self, name: str) -> frozenset[str]:
        """What a service does with the topic. Purging a repartition topic takes the right to delete."""
        read = {source.topic.name for part in self._topology.parts for source in part.sources}
        read |= {table.topic.name for table in self._topology.tables}
        written = {topic.name for part in self._topology.parts for topic in part.sinks}
        needed = {"DESCRIBE"} | ({"READ"} if name in read else set()) | ({"WRITE"} if name in written else set())
        if name in read & written and name.startswith(f"{self._topology.app}-"):
            return _WHOLE | {"DELETE"}
        if any(name == delay.topic for part in self._topology.parts for delay in part.delays):
            return _WHOLE | {"DELETE"}
        internal = {self._topology.changelog(store) for part in self._topology.parts for store in part.stores}
        return _WHOLE if name in internal or name == topic_of(self._topology.app) else frozenset(needed)


def _replication(wrong: Sequence[str], weak: Sequence[str], count: int) -> Check:
    advice = "see to the brokers, or alter the topic's replicas or min.insync.replicas"
    if wrong or weak:
        return Check("replication", "error" if wrong else "warning", "; ".join([*wrong, *weak]), advice)
    return Check("replication", "ok", f"{human.plural(count, 'topic')}: all replicas in sync, writes need no more")


def _rights(lacking: Sequence[tuple[str, Sequence[str]]], count: int) -> Check:
    if lacking:
        text = "; ".join(f"this user may not {' and '.join(missing)} {name}" for name, missing in lacking)
        return Check("rights to topics", "error", text, grant("topic", *lacking[0]))
    return Check("rights to topics", "ok", f"{human.plural(count, 'topic')}: all that a service does with them")


def _numbers(partitions: Sequence[int]) -> str:
    shown = ", ".join(map(str, partitions[:5]))
    return f"partition {shown}" + (f" and {len(partitions) - 5} more" if len(partitions) > 5 else "")
