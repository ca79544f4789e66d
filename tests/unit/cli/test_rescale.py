"""`kstream rescale` of an app that is stopped, on a Kafka in memory: each record counts once, or it is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.cli.operate import Subject
from kstream.cli.savepoint import rescale as command
from kstream.cli.savepoint.rescale import Rescale, Wanted
from kstream.errors import ConfigError, KafkaUnavailable, TopicError, UsageError
from kstream.partitioning import partition_of
from kstream.runtime.cluster import replacing
from kstream.runtime.cluster.control import refuse_unfinished_restore, unfinished_restore
from kstream.runtime.cluster.gathering import Gathering
from kstream.runtime.cluster.prepare import prepare_topics
from kstream.runtime.cluster.restoring import look
from kstream.state.forms import stamp_of
from kstream.state.savepoint import begin_attempt, read_savepoint, savepoints_in
from kstream.state.snapshots.storage import open_storage
from kstream.testing.clients import MemoryAdmin, MemoryClients
from kstream.types import TopicPartition
from unit.runtime.harness import Fleet

KEYS = [f"k{number}" for number in range(40)]
GROUPED = "words-by-word-repartition"


class Bench:
    """An app that numbers the records of each key: behind a `group_by` (store n), and as they come from the input
    (store seen)."""

    def __init__(
        self, directory: Path, *, partitions: int = 4, parallelism: int | None = None, scope: Any = "keyed",
        ttl: kstream.TTL | None = None, raw: bool = False, **settings: Any,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.app = kstream.App("words")
        self.source = self.app.topic("in", key=str, value=int)
        self.grouped, self.direct = (self.app.topic(name, key=str, value=int) for name in ("grouped", "direct"))
        table = self.app.table("seen", key=bytes if raw else str, value=int, default=0, scope=scope, ttl=ttl)

        def key_of(value: int, ctx: kstream.Context[str]) -> str:
            return ctx.key

        by_word = self.app.stream(self.source).group_by(key_of, name="by-word", parallelism=parallelism)
        by_word.count(name="n").to(self.grouped)

        @self.app.agent(self.source, to=self.direct)
        def number(value: int, ctx: kstream.Context[str]) -> int:
            key: Any = ctx.key.encode() if raw else ctx.key
            table[key] += 1
            return table[key]

        self.fleet = Fleet(self.app, directory / "state", partitions=partitions, **settings)
        self.cluster = self.fleet.cluster
        self.sent: Counter[str] = Counter()
        self.storage = open_storage(str(directory / "saved"))
        self.clients = MemoryClients(self.cluster)

    def run(self, keys: list[str], *, began_before: bool = False) -> None:
        """The app runs until it has processed these, and is stopped.

        Args:
            began_before: it looked whether it may start before it might not.
        """
        self.send(keys)
        self.start(began_before=began_before)
        self.fleet.settle()
        self.fleet.leave("a")

    def send(self, keys: list[str]) -> None:
        self.sent.update(keys)
        self.fleet.send(self.source, keys)

    def start(self, *, began_before: bool = False) -> None:
        admin = self.clients.admin()
        if not began_before:
            refuse_unfinished_restore(self.clients, admin, "words")
        self.fleet.partitions = prepare_topics(self.fleet.topology, admin, self.fleet.settings)
        self.fleet.start("a")

    def rescale(
        self, partitions: int, *only: str, grow: bool = False, inputs: Any = None, dry: bool = False,
        yes: bool = True,
    ) -> int:  # fmt: skip
        wanted = Wanted(
            partitions, only, grow, inputs, str(self.directory / "saved"), timeout=0.3, dry_run=dry, yes=yes
        )  # fmt: skip
        subject = Subject(self.app, self.fleet.settings, {})
        return Rescale(subject, self.fleet.topology, self.clients, self.clients.admin(), wanted).run()

    def counts(self) -> dict[str, int]:
        names = (GROUPED, "words-n-changelog", "words-seen-changelog", "in")
        return {name: self.cluster.topic(name).partitions for name in names}

    def check(self) -> None:
        """Each record was counted once, and what a key has lies where its records do."""
        expected = {key: list(range(1, count + 1)) for key, count in self.sent.items()}
        for topic in (self.grouped, self.direct):
            assert self.fleet.outputs(topic) == expected, topic.name
        for store, topic in (("n", GROUPED), ("seen", "in")):
            count = self.cluster.topic(topic).partitions
            homes = {(partition_of(key.encode(), count), key.encode()): number for key, number in self.sent.items()}
            assert {at: int(value) for at, value in self.fleet.changelog(store).items()} == homes, store

    def everything(self) -> dict[str, object]:
        """All that is in the cluster, but the control topic."""
        names = [name for name in self.cluster.topics() if not name.endswith("-control")]
        topics = {name: (self.cluster.topic_id(name), len(self.cluster.records(name))) for name in names}
        return {"offsets": dict(self.cluster.group("words").offsets), "topics": topics}


def no_answer(*arguments: Any, **named: Any) -> Any:
    raise KafkaUnavailable("no answer")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.fleet.close()


def test_more_partitions_and_fewer_again(bench: Bench) -> None:
    bench.run(KEYS * 2)
    for count in (12, 6, 1, 5):
        assert bench.rescale(count, "n") == 0
        assert bench.counts() == {GROUPED: count, "words-n-changelog": count, "words-seen-changelog": 4, "in": 4}
        bench.run([*KEYS[::2], "new", f"of-{count}"])
        bench.check()
    assert bench.rescale(5, "n") == 0  # there is nothing to do
    assert savepoints_in(bench.storage) == ["rescale-1", "rescale-2", "rescale-3", "rescale-4"]


def test_an_input_is_given_more_partitions(bench: Bench) -> None:
    bench.run(KEYS * 2)
    assert bench.rescale(12, grow=True) == 0
    assert set(bench.counts().values()) == {12}
    bench.run([*KEYS, "new"])
    bench.check()


def test_an_input_that_was_given_more_partitions(bench: Bench) -> None:
    bench.run(KEYS * 2)
    bench.cluster.add_partitions("in", 6)
    bench.send([*KEYS, "new"])  # they go where six partitions put them
    wrong = sum(1 for record in bench.cluster.records("in") if record.partition > 3)
    assert wrong > 10
    assert bench.rescale(6) == 0
    bench.run([*KEYS, "newer"])
    bench.check()


def test_what_was_not_read_and_lies_where_fewer_partitions_put_it(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(KEYS)
    bench.send(KEYS)
    before = bench.everything()
    wrong = sum(partition_of(key.encode(), 4) != partition_of(key.encode(), 12) for key in KEYS)
    with pytest.raises(UsageError, match=rf"{wrong} records of topic in that the app has not read yet.* kstream lag"):
        bench.rescale(12, grow=True)
    assert bench.everything() == before
    assert bench.rescale(12, "n") == 0  # does not concern what reads that topic
    bench.run([])
    bench.check()
    bench.send(KEYS)
    bench.cluster.add_partitions("in", 12)
    before = bench.everything()
    with pytest.raises(UsageError, match=rf"{wrong} records .* cannot be moved there; copy .* --inputs earliest"):
        bench.rescale(12)
    assert bench.everything() == before


def test_what_cannot_have_so_many(bench: Bench) -> None:
    bench.run(KEYS)
    before = bench.everything()
    with pytest.raises(UsageError, match=r"reads topic in, which has 4 partitions and is not the app's own: .* --grow"):
        bench.rescale(12)
    with pytest.raises(UsageError, match=r"Kafka takes none away: copy it into a topic with 2"):
        bench.rescale(2, grow=True)
    with pytest.raises(UsageError, match=r"--only other: app words has no store and no input"):
        bench.rescale(2, "other")
    assert bench.everything() == before
    bench.start()
    bench.fleet.settle()
    with pytest.raises(Exception, match=r"no savepoint rescale-1, .* no worker has answered"):
        bench.rescale(2, "n")  # nobody steps the worker meanwhile
    assert bench.everything() == before


def test_an_app_that_was_never_started_has_nothing_to_move(bench: Bench) -> None:
    for name in (GROUPED, "words-n-changelog", "words-seen-changelog"):
        bench.cluster.delete_topic(name)
    with pytest.raises(UsageError, match="has no state yet"):
        bench.rescale(2)


def test_keys_that_belong_to_partitions(tmp_path: Path) -> None:
    bench = Bench(tmp_path, scope="partition")
    bench.run(KEYS)
    with pytest.raises(UsageError, match=r"keys of store seen belong to partitions \(scope='partition'\)"):
        bench.rescale(12, grow=True)
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    assert bench.fleet.outputs(bench.grouped) == {key: [1, 2] for key in KEYS}


def test_keys_that_another_partitioner_has_put_elsewhere(tmp_path: Path) -> None:
    bench = Bench(tmp_path, check_keys="off")
    for key in KEYS:
        bench.cluster.append("in", key.encode(), b"1", partition=len(key) % 4)
    bench.run([])
    before = bench.everything()
    with pytest.raises(UsageError, match=r"store seen: the key 'k\d+' lies in partition .* so nobody knows where"):
        bench.rescale(8, grow=True)
    assert bench.everything() == before


def test_a_single_partition_says_nothing_of_keys_of_another_type(tmp_path: Path) -> None:
    bench = Bench(tmp_path, partitions=1, raw=True)
    bench.run(KEYS)
    with pytest.raises(UsageError, match=r"store seen has keys of type bytes, its input str"):
        bench.rescale(4, grow=True)


def test_what_waits_in_the_apps_own_topics_is_processed_first(bench: Bench) -> None:
    bench.run(KEYS)
    bench.cluster.append(GROUPED, b"k1", b"1")
    before = bench.everything()
    with pytest.raises(UsageError, match=rf"topic {GROUPED} has 1 record that the app has not processed yet: start"):
        bench.rescale(12, "n")
    assert bench.everything() == before


def test_a_dry_run_changes_nothing(
    bench: Bench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    bench.run(KEYS)
    before = bench.everything()
    assert bench.rescale(12, grow=True, dry=True) == 0
    said = capsys.readouterr().out
    assert GROUPED in said and "more partitions" in said and "made anew" in said
    assert bench.everything() == before and not savepoints_in(bench.storage)


def test_parallelism_that_is_declared_otherwise_from_now_on(bench: Bench, tmp_path: Path) -> None:
    bench.run(KEYS)
    bench.fleet.topology = Bench(tmp_path / "later", parallelism=6).fleet.topology
    with pytest.raises(TopicError, match=r"has 4 partitions and needs 6: .* kstream rescale --partitions 6"):
        bench.start()
    assert bench.rescale(6, "n") == 0
    bench.run(KEYS)
    bench.check()
    assert bench.counts() == {GROUPED: 6, "words-n-changelog": 6, "words-seen-changelog": 4, "in": 4}


def test_parallelism_that_is_declared_is_what_its_topic_gets(tmp_path: Path) -> None:
    bench = Bench(tmp_path, parallelism=3)
    bench.run(KEYS)
    assert bench.rescale(12, grow=True) == 0
    assert bench.counts() == {GROUPED: 3, "words-n-changelog": 3, "words-seen-changelog": 12, "in": 12}
    bench.run(KEYS)
    bench.check()


@pytest.mark.parametrize("after", [pytest.param(False, marks=pytest.mark.more), True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["delete_group", "delete_topics", "prepare_topics", "write", "keep_types", "offsets"])
def test_broken_off_it_is_run_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    owners: dict[str, tuple[Any, str]] = {
        "delete_group": (MemoryAdmin, "delete_group"), "delete_topics": (MemoryAdmin, "delete_topics"),
        "prepare_topics": (replacing, "prepare_topics"), "write": (replacing.EntryWriter, "write"),
        "keep_types": (replacing, "keep_types"), "offsets": (replacing, "_commit_offsets"),
    }  # fmt: skip
    bench.run(KEYS)
    owner, name = owners[step]
    real = getattr(owner, name)

    def broken(*arguments: Any, **named: Any) -> Any:
        if after:
            real(*arguments, **named)
        raise KafkaUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(KafkaUnavailable):
            bench.rescale(12, grow=True)
    with pytest.raises(
        ConfigError, match=r"savepoint rescale-1 .* in 12 partitions, and that is not complete.*rescale"
    ):
        bench.start()
    with pytest.raises(UsageError, match=r"being moved to 12 partitions, and that is not complete"):
        bench.rescale(6)
    assert bench.rescale(12) == 0
    assert savepoints_in(bench.storage) == ["rescale-1"]
    bench.run([*KEYS, "new"])
    bench.check()


def test_an_app_that_went_on_after_its_savepoint_is_left_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(KEYS)
    real = Gathering.make

    def ran_on(made: Gathering) -> Any:
        """As an instance does that was a member until now, and learns of its end when it has committed."""
        saved = real(made)
        bench.cluster.group("words").commit({TopicPartition("in", 0): bench.fleet.committed("in")[0] + 1}, {})
        return saved

    before = bench.fleet.committed("in")[0]
    monkeypatch.setattr(Gathering, "make", ran_on)
    with pytest.raises(UsageError, match=r"the app went on after it was stopped \(.* was committed at"):
        bench.rescale(12, "n")
    bench.cluster.group("words").commit({TopicPartition("in", 0): before}, {})
    assert unfinished_restore(bench.clients, bench.clients.admin(), "words") is None
    monkeypatch.undo()
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    bench.check()


def test_an_instance_that_looked_before_the_note_was_there_processes_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It joins when the group is deleted: it would find no offsets, and count from the start."""
    bench.run(KEYS)
    real = replacing.prepare_topics

    def joins(*arguments: Any, **named: Any) -> Any:
        counts = real(*arguments, **named)
        with pytest.raises(ConfigError, match="that is not complete"):
            bench.run(KEYS, began_before=True)
        bench.fleet.crash("a")
        bench.fleet.expire("a")
        return counts

    monkeypatch.setattr(replacing, "prepare_topics", joins)
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    bench.check()


def test_an_instance_that_was_no_member_for_a_while_looks_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine stood still while the app was moved."""
    bench.run(KEYS)
    bench.send(KEYS)
    bench.start()
    bench.fleet.settle()
    bench.fleet.expire("a")
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "_commit_offsets", no_answer)
        with pytest.raises(KafkaUnavailable):
            bench.rescale(12, "n")
    with pytest.raises(ConfigError, match="that is not complete"):
        bench.fleet.step("a", times=20)
    bench.fleet.crash("a")
    bench.fleet.expire("a")
    assert bench.rescale(12, "n") == 0
    bench.run([])
    bench.check()


def test_an_instance_that_has_joined_meanwhile_is_seen_before_anything_is_changed(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.run(KEYS)
    before, real = bench.everything(), command.carry_out

    def joined(*arguments: Any, **named: Any) -> int:
        bench.start(began_before=True)
        with pytest.raises(ConfigError):  # it sees the note, and is a member until its session ends
            bench.fleet.step()
        return real(*arguments, **named)

    monkeypatch.setattr(command, "carry_out", joined)
    with pytest.raises(UsageError, match="group words has 1 member"):
        bench.rescale(12, "n")
    assert bench.everything() == before


def test_where_the_note_cannot_be_looked_for_it_is_asked_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.run(KEYS)
    assert bench.rescale(12, "n") == 0  # there is something to look at
    bench.send(KEYS)
    bench.start()
    bench.cluster.fail_next("topics", KafkaUnavailable("no answer"))
    bench.fleet.settle()
    bench.fleet.leave("a")
    assert "it cannot be read whether the app's state is being replaced; asking again: no answer" in caplog.text
    bench.check()


@pytest.mark.parametrize("step", ["_write_entries", "keep_types", "_commit_offsets"])
def test_of_two_at_once_the_first_to_end_does_not_end_the_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The second takes the first for one that was broken off, begins, and is broken off where the first goes on."""
    bench.run(KEYS)
    real, real_entry = getattr(replacing, step), replacing.EntryWriter.write

    def overtaken(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(replacing, step, real)

        with monkeypatch.context() as patch:
            patch.setattr(replacing.EntryWriter, "write", no_answer)
            with pytest.raises(KafkaUnavailable):
                bench.rescale(12)
        return real(*arguments, **named)

    monkeypatch.setattr(replacing, step, overtaken)
    with pytest.raises(UsageError, match=r"is not this command's any more: kstream rescale replaces it"):
        bench.rescale(12, grow=True)
    assert replacing.EntryWriter.write is real_entry
    with pytest.raises(ConfigError, match="that is not complete"):
        bench.start()
    assert bench.rescale(12) == 0
    bench.run(KEYS)
    bench.check()


def test_entries_of_a_run_that_was_overtaken_are_not_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(KEYS)
    real = replacing.EntryWriter.finish

    def strays(writer: Any) -> None:
        bench.cluster.append("words-n-changelog", b"k1", b"9", partition=3)
        real(writer)

    with monkeypatch.context() as patch:
        patch.setattr(replacing.EntryWriter, "finish", strays)
        with pytest.raises(UsageError, match=r"80 entries were written .* and they have 81 records"):
            bench.rescale(12, "n")
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    bench.check()


def test_run_again_with_another_choice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything was changed it begins anew with what is asked for now; after that it is refused."""
    bench.run(KEYS)

    class Killed(BaseException):
        pass

    def killed(*arguments: Any, **named: Any) -> Any:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(command, "weigh", killed)
        patch.setattr(command.Rescale, "_forget", lambda *_: None)
        with pytest.raises(Killed):
            bench.rescale(12, grow=True)
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "_commit_offsets", killed)
        with pytest.raises(Killed):
            bench.rescale(12, "n")
    assert bench.counts() == {GROUPED: 12, "words-n-changelog": 12, "words-seen-changelog": 4, "in": 4}
    with pytest.raises(UsageError, match=r"not what --only seen means: run it again without --only"):
        bench.rescale(12, "seen", grow=True)
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    bench.check()


def test_what_was_begun_and_changed_nothing_asks_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.run(KEYS)
    before = bench.everything()

    def killed(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(command, "weigh", killed)
        patch.setattr(command.Rescale, "_forget", lambda *_: None)
        with pytest.raises(KeyboardInterrupt):
            bench.rescale(12, "n")
    monkeypatch.setattr(command, "agreed", lambda question: False)
    assert bench.rescale(12, "n", yes=False) == 1
    assert bench.everything() == before
    bench.run(KEYS)
    bench.check()


@pytest.mark.parametrize("step", ["make", "weigh"])
def test_with_control_c_before_anything_was_changed_the_app_starts(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    bench.run(KEYS)

    def interrupted(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Gathering if step == "make" else command, step, interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.rescale(12, "n")
    bench.run(KEYS)
    bench.check()


def test_broken_off_it_says_that_the_app_does_not_start(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(KEYS)
    with monkeypatch.context() as patch:
        patch.setattr(replacing, "_commit_offsets", no_answer)
        with pytest.raises(KafkaUnavailable):
            bench.rescale(12, "n")
    assert "until this rescale is run again, to its end, app words does not start" in " ".join(
        capsys.readouterr().err.split()
    )


def test_inputs_grow_after_all_else_was_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bench.run(KEYS)
    real = Gathering.make

    def went_on(made: Gathering) -> Any:
        saved = real(made)
        bench.cluster.group("words").commit({TopicPartition("in", 0): 0}, {})
        return saved

    with monkeypatch.context() as patch:
        patch.setattr(Gathering, "make", went_on)
        with pytest.raises(UsageError, match="the app went on after it was stopped"):
            bench.rescale(12, grow=True)
    assert bench.counts()["in"] == 4
    assert "and as it was" in capsys.readouterr().out


def test_what_came_while_an_input_grew(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A producer that did not know yet: it cannot be said that nothing was changed, or that reading it first helps."""
    bench.run(KEYS)
    real = command.grow_inputs

    def meanwhile(*arguments: Any) -> Any:
        bench.send(KEYS)
        return real(*arguments)

    monkeypatch.setattr(command, "grow_inputs", meanwhile)
    with pytest.raises(UsageError, match=r"records of topic in .* cannot be moved there; copy"):
        bench.rescale(12, grow=True)
    said = " ".join(capsys.readouterr().out.split())
    assert "and as it was" not in said and "topics have grown" in said and "in (12 partitions)" in said


def test_a_folder_that_another_app_has_begun_does_not_stand_in_the_way(bench: Bench) -> None:
    bench.run(KEYS)
    begin_attempt(bench.storage, "rescale-1", "0123456789ab", "other")
    assert bench.rescale(12, "n") == 0
    assert savepoints_in(bench.storage) == ["rescale-2"]


def test_state_without_offsets_does_not_get_offsets_by_being_moved(bench: Bench) -> None:
    """They have expired: the start stops these tasks, and moved they would have counted everything twice."""
    bench.run(KEYS)
    bench.cluster.group("words").offsets.clear()
    for number in range(4):  # as workers do in time
        bench.cluster.truncate(GROUPED, number, bench.cluster.log(TopicPartition(GROUPED, number)).stable_end)
    before = bench.everything()
    with pytest.raises(TopicError, match=r"state without offsets: task in/0 has entries in seen, but group words"):
        bench.rescale(12, "n")
    assert bench.everything() == before
    assert unfinished_restore(bench.clients, bench.clients.admin(), "words") is None
    with pytest.raises(TopicError, match=rf"state without offsets: task {GROUPED}/0 has entries in n,"):
        bench.rescale(12, "n", inputs="latest")  # says nothing of the app's own topics


def test_an_input_that_the_app_did_not_read_before_begins_where_it_is_said(bench: Bench) -> None:
    """As a copy of the one before does; only the user can tell it from one whose offsets are gone."""
    bench.run(KEYS)
    offsets = bench.cluster.group("words").offsets
    for at in [at for at in offsets if at.topic == "in"]:
        del offsets[at]
    bench.cluster.delete_topic("in")
    bench.cluster.create_topic("in", 12)
    with pytest.raises(TopicError, match=r"task in/0 has entries in seen, .* --inputs says where it begins"):
        bench.rescale(12, "seen")
    assert bench.rescale(12, "seen", inputs="latest") == 0
    bench.run(KEYS)
    bench.check()


def test_offsets_of_a_topic_that_was_made_anew_are_not_taken_for_its_own(bench: Bench) -> None:
    bench.run(KEYS)
    bench.cluster.delete_topic("in")
    bench.cluster.create_topic("in", 12)
    with pytest.raises(TopicError, match=r"topic in was deleted and created again .* set lost_offsets to continue"):
        bench.rescale(12)
    bench.fleet.settings = replace(bench.fleet.settings, lost_offsets="continue")
    with pytest.raises(UsageError, match="topic in has no committed offsets: the app has never read it, or they are"):
        bench.rescale(12)
    assert bench.rescale(12, inputs="earliest") == 0
    bench.run(KEYS)  # all that there is now
    bench.check()


def test_a_topic_that_was_made_anew_before_anything_was_read_of_it_is_read_from_its_start(bench: Bench) -> None:
    """As the app does, which goes on there: no offset of the deleted topic says anything."""
    bench.run(KEYS)
    offsets = bench.cluster.group("words").offsets
    for at, (_, said) in [(at, entry) for at, entry in offsets.items() if at.topic == "in"]:
        offsets[at] = 0, said
    bench.cluster.delete_topic("in")
    bench.cluster.create_topic("in", 4)
    bench.send(KEYS)
    assert bench.rescale(12, "n") == 0
    assert {entry[0] for at, entry in offsets.items() if at.topic == "in"} == {0}
    bench.run([])
    bench.check()


@pytest.mark.parametrize("again", [False, True])
def test_an_app_whose_changelog_was_deleted_is_not_moved(bench: Bench, again: bool) -> None:
    """Its state would be moved without what was in it, and get offsets by that."""
    bench.run(KEYS)
    bench.cluster.delete_topic("words-seen-changelog")
    if again:
        bench.cluster.create_topic("words-seen-changelog", 4, {"cleanup.policy": "compact"})
    before = bench.everything()
    with pytest.raises(TopicError, match=r"changelog words-seen-changelog (was deleted|does not exist)"):
        bench.rescale(12, "n")
    assert bench.everything() == before


def test_a_topic_that_nobody_may_make_is_missed_before_anything_is_changed(bench: Bench) -> None:
    bench.run(KEYS)
    bench.cluster.delete_topic("grouped")
    bench.fleet.settings = replace(bench.fleet.settings, auto_create_topics=False)
    before = bench.everything()
    with pytest.raises(TopicError, match=r"topics are missing: grouped"):
        bench.rescale(12, grow=True)
    assert bench.everything() == before
    assert unfinished_restore(bench.clients, bench.clients.admin(), "words") is None


def test_an_entry_that_kafka_would_refuse_is_found_before_anything_is_changed(bench: Bench) -> None:
    """Both are less than there was when it was written."""
    bench.run([*KEYS, "k" * 1000])
    before, settings = bench.everything(), bench.fleet.settings
    bench.fleet.settings = replace(settings, kafka={"message.max.bytes": "1000"})
    with pytest.raises(UsageError, match=r"has 1,001 bytes, and kafka.message.max.bytes lets us send 1,000"):
        bench.rescale(12, "n")
    bench.fleet.settings = replace(settings, changelog={"max.message.bytes": "1200"}, compression="none")
    with pytest.raises(UsageError, match=r"1,001 bytes, and its changelog is declared with max.message.bytes 1,200"):
        bench.rescale(12, "n")
    assert bench.everything() == before
    bench.fleet.settings = replace(bench.fleet.settings, compression="lz4")
    assert bench.rescale(12, "n") == 0


def test_times_of_entries_stay_and_the_time_of_their_state_does_not_go_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, ttl=kstream.TTL(hours=1, time="event"))
    bench.run(KEYS)
    bench.fleet.clock.advance(600)
    bench.run([key for key in KEYS if partition_of(key.encode(), 4) == 1])
    before = {key: stamp_of(value) for (_, key), value in bench.fleet.changelog("seen").items()}
    times = _event_times(bench)
    assert len(set(before.values())) > 1 and times[1] > max(times[n] for n in (0, 2, 3))
    assert bench.rescale(6, grow=True) == 0
    assert {key: stamp_of(value) for (_, key), value in bench.fleet.changelog("seen").items()} == before
    late, early = times[1], max(times[0], times[2])
    assert _event_times(bench) == {number: late if number % 2 else early for number in range(6)}
    bench.run([])
    assert len(bench.fleet.changelog("seen")) == len(KEYS)


def _event_times(bench: Bench) -> dict[int, int]:
    offsets = bench.cluster.group("words").offsets
    return {at.partition: json.loads(text).get("e", 0) for at, (_, text) in sorted(offsets.items()) if at.topic == "in"}


def test_a_savepoint_of_an_app_that_was_rescaled_is_restored_with_its_partitions(bench: Bench) -> None:
    bench.run(KEYS)
    assert bench.rescale(12, "n") == 0
    bench.run(KEYS)
    assert bench.rescale(6, "n") == 0  # with a savepoint of twelve partitions
    plan = look(
        bench.fleet.topology, bench.clients.admin(), bench.fleet.settings, read_savepoint(bench.storage, "rescale-2"),
        rename={}, as_app=None, allow_dropped=False,
    )  # fmt: skip
    assert plan.partitions[GROUPED] == 12


def test_each_partition_has_an_offset_and_new_ones_their_start(bench: Bench) -> None:
    bench.run(KEYS)
    done = bench.fleet.committed("in")
    bench.cluster.add_partitions("in", 6)
    bench.send(["k1", "k2", "k3"])
    assert bench.rescale(6) == 0
    offsets = bench.cluster.group("words").offsets
    assert {at.partition: offsets[at][0] for at in sorted(offsets) if at.topic == "in"} == {**done, 4: 0, 5: 0}
    assert all(offsets[TopicPartition(GROUPED, number)][0] == 0 for number in range(6))
    assert TopicPartition(GROUPED, 6) not in offsets
