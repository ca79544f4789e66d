"""What `kstream doctor` says of an app that was changed, and of what was changed in Kafka behind its back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

import kstream
from kstream.cli.checks import Check
from kstream.cli.checks.kept import compared, restored, running
from kstream.cli.checks.uncounted import uncounted
from kstream.clock import SystemClock
from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.announcement import encode
from kstream.runtime.cluster.comparing import Comparing
from kstream.runtime.cluster.control import RestoreNote, ensure_topic, topic_of
from kstream.runtime.cluster.stored_types import check_types
from kstream.runtime.task.states import TaskState
from kstream.specs.stored import ANNOUNCEMENTS
from kstream.testing.clients import MemoryClients
from unit.runtime.harness import Fleet


def make(*tables: str, value: Any = int, name: str = "shop", group: str | None = None, by: str | None = None) -> Any:
    """An app with these tables, each of which has the last value of each key."""
    app = kstream.App(name)
    source = app.topic("in", key=str, value=value)
    kept = [app.table(one, key=str, value=value) for one in tables]
    options = {} if group is None else {"group": group}

    @app.agent(source, tables=kept, **options)
    def keep(one: Any, ctx: kstream.Context[str]) -> None:
        for table in kept:
            table[ctx.key] = one

    if by is not None:
        app.stream(source).group_by(str, name=by, key=str).count(name="n")
    return app


class Kafka:
    """A cluster in which an app has run."""

    def __init__(self, directory: Path, app: kstream.App) -> None:
        self.app = app
        self.fleet = Fleet(app, directory, partitions=2)
        self.cluster = self.fleet.cluster
        self.clients = MemoryClients(self.cluster)
        check_types(app.topology(), self.clients, self.clients.admin(), SystemClock(), replication=1, go_on=False)

    def run(self) -> None:
        self.fleet.start("a")
        self.fleet.send(next(iter(self.fleet.topology.parts)).sources[0].topic, [f"k{n}" for n in range(9)])
        self.fleet.settle()
        self.fleet.leave("a")

    def checks(self, app: kstream.App | None = None) -> dict[str, Check]:
        topology = (app or self.app).topology()
        comparing = Comparing(topology, self.clients, self.clients.admin())
        return {one.name: one for one in compared(comparing, topology)}

    def bad(self, app: kstream.App | None = None) -> dict[str, str]:
        return {name: one.text for name, one in self.checks(app).items() if one.state != "ok"}


Make = Callable[..., Kafka]


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Make]:
    made: list[Kafka] = []

    def run(*tables: str, **more: Any) -> Kafka:
        made.append(Kafka(tmp_path, make(*tables, **more)))
        made[-1].run()
        return made[-1]

    yield run
    for one in made:
        one.fleet.close()


def test_an_app_that_has_run_is_as_it_should_be(kafka: Make) -> None:
    one = kafka("seen", by="by")
    assert one.bad() == {}
    assert {check.name for check in one.checks().values()} == {"left topics", "names of stores", "state and offsets"}


def test_before_the_first_start_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert Kafka(tmp_path, make("seen", by="by")).bad() == {}


def test_a_store_that_has_another_name(kafka: Make) -> None:
    one, renamed = kafka("seen"), make("readers")
    assert list(one.bad(renamed)) == ["names of stores"]
    check = one.checks(renamed)["names of stores"]
    assert check.state == "warning" and "store seen is gone (about " in check.text
    assert "readers is new, of the same types, and begins empty: was it renamed?" in check.text
    assert "--rename seen=readers" in check.advice


def test_a_store_of_other_types_is_another_one(kafka: Make) -> None:
    one = kafka("seen")
    found = one.bad(make("readers", value=str))
    assert found.keys() == {"left topics", "names of stores"}
    assert "nothing of the app uses shop-seen-changelog" in found["left topics"]
    assert found["names of stores"] == "new, and empty at first: readers; what was read before is not in it"


def test_a_store_that_came_and_one_that_went(kafka: Make) -> None:
    one = kafka("seen", "kept")
    assert one.bad(make("seen", "kept", "more")) == {
        "names of stores": "new, and empty at first: more; what was read before is not in it"
    }
    gone = one.checks(make("kept"))["left topics"]
    assert gone.state == "warning" and "shop-seen-changelog (about " in gone.text
    assert "kafka-topics.sh --delete --topic shop-seen-changelog" in gone.advice


def test_offsets_that_are_lost_before_a_repartition(kafka: Make) -> None:
    """Its tasks stopped at the start, and doctor had nothing to say: they have no state themselves."""
    one = kafka(by="by")
    topology, admin = one.app.topology(), one.clients.admin()
    assert uncounted(topology, admin) == []
    kept = one.cluster.group("shop").offsets
    for at in [at for at in kept if at.topic == "in"]:
        del kept[at]
    lines = uncounted(topology, admin)
    assert len(lines) == 2 and all("wrote to shop-by-repartition was counted" in line for line in lines)
    check = {each.name: each for each in compared(Comparing(topology, one.clients, admin), topology, lost=lines)}
    assert check["state and offsets"].state == "error" and lines[0] in check["state and offsets"].text


def test_a_group_of_another_name_leaves_its_topic(kafka: Make) -> None:
    found = (one := kafka(by="by")).bad(make(by="by-line"))
    assert "shop-by-repartition" in found["left topics"]
    assert "has entries in n, but group shop has no committed offsets" in found["state and offsets"]
    assert one.bad() == {}


@pytest.mark.parametrize("what", ["control", "instances", "store-types"])
def test_topics_of_an_app_with_a_longer_name_are_its_own(kafka: Make, what: str) -> None:
    one = kafka("seen")
    one.cluster.create_topic("shop-eu-seen-changelog")
    left = one.checks()["left topics"]
    assert "shop-eu-seen-changelog" in left.text, "nobody else is known who has it"
    assert "no other program has it whose name begins with the app's" in left.advice, "one of Kafka Streams, say"
    one.cluster.create_topic(f"shop-eu-{what}")
    assert one.bad() == {}


def test_topics_of_users_are_theirs(kafka: Make) -> None:
    one = kafka("seen")
    one.cluster.create_topic("shop-orders")
    one.cluster.create_topic("workshop-seen-changelog")
    assert one.bad() == {}


def test_state_without_offsets(kafka: Make) -> None:
    one = kafka("seen")
    one.cluster.group("shop").offsets.clear()
    check = one.checks()["state and offsets"]
    assert check.state == "error" and "state without offsets: task in/0 has entries in seen" in check.text
    assert "lost_offsets=continue" in check.advice


def test_entries_that_all_went_are_no_state(kafka: Make) -> None:
    one = kafka("seen")
    one.cluster.group("shop").offsets.clear()
    one.cluster.delete_topic("shop-seen-changelog")
    one.cluster.create_topic("shop-seen-changelog", 2)
    one.cluster.append("shop-seen-changelog", b"k", None)
    assert one.bad() == {}


@pytest.mark.parametrize("again", [False, True])
def test_offsets_without_state(kafka: Make, again: bool) -> None:
    one = kafka("seen")
    one.cluster.delete_topic("shop-seen-changelog")
    if again:
        one.cluster.create_topic("shop-seen-changelog", 2)
    text = one.checks()["state and offsets"].text
    assert f"changelog shop-seen-changelog {'was deleted and created again' if again else 'does not exist'}" in text


def test_an_input_that_was_made_anew(kafka: Make) -> None:
    one = kafka("seen")
    one.cluster.delete_topic("in")
    one.cluster.create_topic("in", 2)
    assert "topic in was deleted and created again" in one.bad()["state and offsets"]


def test_one_of_which_nothing_was_read_stops_nobody(kafka: Make) -> None:
    """Its task reads the new one from the start, whatever lost_offsets says."""
    one = kafka("seen")
    offsets = one.cluster.group("shop").offsets
    for at, (_, text) in list(offsets.items()):
        offsets[at] = 0, text
    one.cluster.delete_topic("in")
    one.cluster.create_topic("in", 2)
    assert one.bad() == {}
    one.fleet.start("a")
    one.fleet.step(times=20)
    assert {task.state for task in one.fleet.workers["a"].tasks.values()} == {TaskState.RUNNING}


def test_many_tasks_have_one_line(kafka: Make) -> None:
    one = kafka("seen", "other")
    for changelog in ("seen", "other"):
        one.cluster.delete_topic(f"shop-{changelog}-changelog")
    assert "; and 1 more" in one.bad()["state and offsets"]


def test_what_moved_to_another_isolation_group_takes_its_offsets_along(kafka: Make) -> None:
    assert kafka("seen").bad(make("seen", group="apart")) == {}


def test_offsets_of_a_later_version(kafka: Make) -> None:
    one = kafka("seen")
    offsets = one.cluster.group("shop").offsets
    for at, (offset, text) in list(offsets.items()):
        offsets[at] = offset, text.replace('"v":1', '"v":2')
    assert "a later version of kstream wrote it" in one.checks()["state and offsets"].text


def test_a_restore_that_is_not_complete(kafka: Make) -> None:
    one = kafka("seen")
    admin = one.clients.admin()
    assert restored(one.app.topology(), one.clients, admin).state == "ok"
    ensure_topic(admin, "shop", 1)
    one.cluster.append(topic_of("shop"), b"restore", msgspec.json.encode(RestoreNote("kstream reset", "s", 1.0)))
    check = restored(one.app.topology(), one.clients, admin)
    assert check.state == "error" and "is not complete" in check.text


def test_an_instance_whose_announcement_cannot_be_read_runs_all_the_same(tmp_path: Path) -> None:
    one = Kafka(tmp_path, make("seen"))
    on: Any = SimpleNamespace(clients=one.clients)
    assert running(on, "shop").text == "no instance runs"
    one.cluster.create_topic("shop-instances")
    own = version("kstream")
    said = msgspec.json.decode(encode(InstanceStatus("shop", "a", "running", 1.0, 1.0, version=own), 5.0))
    ahead = round(time.time() * 1000) + 1_800_000  # by another clock: it does not grow old meanwhile

    def announce(name: str, **more: int) -> None:
        one.cluster.append("shop-instances", name.encode(), msgspec.json.encode(said | more), timestamp=ahead)

    announce("a")
    assert running(on, "shop") == Check("running versions", "ok", f"1 instance of kstream {own}")
    announce("b", v=ANNOUNCEMENTS.number + 1)
    found = running(on, "shop")
    assert found.state == "warning"
    assert found.text.startswith(f"1 instance of kstream {own}; instance b: a later version of kstream wrote it")
    one.fleet.close()
