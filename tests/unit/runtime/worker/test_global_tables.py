"""The copies of global tables: when a worker begins, what it goes on with after a restart, and what becomes of topics
that are gone, denied, cut off or made anew."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.cli.state.stopped import stopped
from kstream.errors import KafkaUnavailable, StateError
from kstream.runtime.cluster.prepare import tell
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.worker import global_tables
from kstream.runtime.worker.global_copy import GlobalCopy
from kstream.runtime.worker.global_tables import WAIT_SECONDS
from kstream.state.memory import MemoryBackend
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryAdmin, MemoryClients
from kstream.types import TopicPartition


class Shop:
    """Orders find customers; `plain` is another part of the app, which has nothing to do with them."""

    def __init__(self, *, partitions: int | None = 3, **more: Any) -> None:
        self.app = app = kstream.App("shop", **more)
        self.customers = app.topic("customers", key=str, value=str | None, partitions=partitions)
        self.orders = app.topic("orders", key=str, value=str, partitions=2)
        self.plain = app.topic("plain", key=str, value=str, partitions=2)
        self.out = app.topic("out", key=str, value=str)
        self.through = app.topic("through", key=str, value=str)
        known = app.global_table(self.customers)
        app.stream(self.orders).join(
            known, lambda order, name: f"{order}-{name}", on=lambda order: order[0], how="left"
        ).to(self.out)  # fmt: skip
        app.stream(self.plain).to(self.through)

    def driver(self, **settings: Any) -> TestDriver:
        return TestDriver(self.app, backend="rocksdb", **settings)


@pytest.fixture(autouse=True)
def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are not held back because a test before had the same within ten seconds."""
    monkeypatch.setattr(logging.getLogger(GlobalCopy.__module__), "filters", [])


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def d(shop: Shop) -> Iterator[TestDriver]:
    with shop.driver() as driver:
        for key in "abcdefgh":
            driver.send(shop.customers, key.upper(), key=key)
        driver.send(shop.orders, "a1")
        driver.commit()
        yield driver


def copy_of(d: TestDriver) -> GlobalCopy:
    return d.worker.tables.copies["customers"]


def told(d: TestDriver) -> list[str | None]:
    """What its tasks of orders say."""
    report = report_of(d.worker, StoreSizes(d.clock.monotonic))
    return [task.why for task in report.tasks if task.name.startswith("orders")]


def test_a_restart_reads_only_what_is_new_and_its_offsets_are_committed_nowhere(shop: Shop, d: TestDriver) -> None:
    assert copy_of(d).applied == 8
    assert {at.topic for at in d.cluster.group("shop").offsets} == {"orders"}
    d.cluster.append("customers", b"i", b"I")
    d.crash()
    assert copy_of(d).applied == 1
    d.send(shop.orders, "i2")
    d.send(shop.orders, "b3")
    assert d.values(shop.out) == ["a1-A", "i2-I", "b3-B"]


def test_a_start_waits_for_the_end_of_the_topic(shop: Shop) -> None:
    """The group is joined when it is read; until then others keep the partitions."""
    with shop.driver(poll_batch=10) as d:
        for number in range(95):
            d.cluster.append("customers", b"a", b"%d" % number, partition=0)
        d.cluster.append("orders", b"k", b"a1")
        d.worker.abandon()
        d._start()  # a new worker, which has nothing
        worker = d.worker
        turns = 0
        while worker.tables.waits:
            assert not worker.tasks and not worker.is_member
            worker.step()
            turns += 1
        assert turns > 9
        d.process()
        assert d.values(shop.out) == ["a1-94"]


def test_while_brokers_do_not_answer_a_start_does_not_spin(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for their answer, for a moment at a time: it may be told to stop."""
    waits: list[float] = []
    with shop.driver() as d:
        monkeypatch.setattr(MemoryAdmin, "describe", lambda admin, names: Future())
        monkeypatch.setattr(global_tables, "wait", lambda asked, seconds: waits.append(seconds))
        d.worker.abandon()
        d._start()
        for _ in range(20):
            d.worker.step()
        assert d.worker.tables.waits and len(waits) == 20 and set(waits) == {WAIT_SECONDS}
        d.worker.stop()
        assert d.worker.stopping


def test_an_open_transaction_at_its_end_is_not_waited_for(shop: Shop) -> None:
    with shop.driver() as d:
        d.send(shop.customers, "A", key="a")
        producer = _producer(d)
        producer.produce("customers", b"B", b"a", 0)
        d.crash()
        d.send(shop.orders, "a1")
        assert d.values(shop.out) == ["a1-A"]
        producer.commit(1.0)
        d.send(shop.orders, "a2")
        assert d.values(shop.out) == ["a1-A", "a2-B"]


def _producer(d: TestDriver) -> Any:
    producer = MemoryClients(d.cluster).producer("other")
    producer.init_transactions(1.0)
    producer.begin()
    return producer


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("longer", [False, True])
def test_a_topic_that_was_made_anew_is_read_anew(shop: Shop, d: TestDriver, restarted: bool, longer: bool) -> None:
    """Tasks find the rows as they were until all of the new ones are there."""
    d.cluster.delete_topic("customers")
    d.cluster.create_topic("customers", 3)
    for _ in range(30 if longer else 1):
        d.cluster.append("customers", b"b", b"New", partition=0)
    if restarted:
        d.crash()
    else:
        d.advance(11)
    d.send(shop.orders, "a2")
    d.send(shop.orders, "b3")
    assert d.values(shop.out) == ["a1-A", "a2-None", "b3-New"]
    assert copy_of(d).rows == 1


def test_a_topic_that_was_made_anew_is_read_from_its_start_while_another_table_waits_for_its_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is read for a moment then, and the reader would go on where it was in the topic before."""
    shop, inner, held = Shop(partitions=1), GlobalCopy.open, [True]
    colours = shop.app.topic("colours", key=str, value=str, partitions=1)
    shop.app.global_table(colours)
    monkeypatch.setattr(GlobalCopy, "open", lambda self: not (held and self.name == "colours") and inner(self))
    with shop.driver() as d:
        tables = d.worker.tables
        for key in "abc":
            d.cluster.append("customers", key.encode(), b"old")
        turns(d, 20)
        d.cluster.delete_topic("customers")
        d.cluster.create_topic("customers", 1)
        for key in "vwxyz":
            d.cluster.append("customers", key.encode(), b"new")
        turns(d, 400)
        d.cluster.append("customers", b"a", b"new")
        held.clear()
        turns(d, 20)
        assert tables.copies["colours"].serves
        assert [key for key, _ in tables.stores["customers"].scan()] == [b"a", b"v", b"w", b"x", b"y", b"z"]


def turns(d: TestDriver, count: int) -> None:
    for _ in range(count):
        d.clock.advance(0.03)
        d.worker.tables.step([])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_topic_whose_next_record_was_deleted_is_read_anew(shop: Shop, d: TestDriver, restarted: bool) -> None:
    home = d.cluster.choose_partition("customers", b"a")
    for _ in range(9):
        d.cluster.append("customers", b"a", b"Ann")
    d.cluster.truncate("customers", home, d.cluster.log(TopicPartition("customers", home)).end - 1)
    if restarted:
        d.crash()
    else:
        d.process()
    d.send(shop.orders, "a2")
    assert d.values(shop.out) == ["a1-A", "a2-Ann"]


TROUBLE = st.one_of(
    st.tuples(st.just("row"), st.sampled_from("abcdef"), st.one_of(st.none(), st.text("xyz", max_size=2))),
    st.sampled_from([(one,) for one in ("anew", "compact", "deny", "allow", "crash", "damage", "wait", "order")]),
)


@given(steps=st.lists(TROUBLE, max_size=20), backend=st.sampled_from(["memory", "rocksdb"]))
def test_whatever_becomes_of_topic_and_files_the_table_is_the_topics(steps: list[Any], backend: str) -> None:
    """In the end; and on the way each order finds a row that its key had in this topic, or the one before it."""
    shop, rows = Shop(), dict[str, str]()
    had: set[str | None] = {None}  # rows of "a"
    orders = 0
    with TestDriver(shop.app, backend=backend) as d:
        for step in steps:
            match step:
                case ("row", key, value):
                    d.cluster.append("customers", key.encode(), None if value is None else value.encode())
                    rows.pop(key, None) if value is None else rows.update({key: value})
                    had |= {rows.get("a")}
                case ("anew",):
                    d.cluster.delete_topic("customers")
                    d.cluster.create_topic("customers", 3, {"cleanup.policy": "compact"})
                    rows = {}
                case ("compact",):
                    d.cluster.compact("customers")
                case ("deny",) | ("allow",):
                    d.cluster.deny("customers", read=step == ("deny",))
                case ("damage",):
                    copy_of(d).damaged(StateError("corruption"))
                case ("wait",):
                    d.advance(11)
                case ("order",):
                    d.cluster.append("orders", b"k", b"a%d" % orders)
                    orders += 1
                case _:
                    d.crash()
            d.process()
        d.cluster.deny("customers")
        d.advance(11)
        d.advance(11)
        assert {key.decode(): value for key, value in d.worker.tables.stores["customers"].scan()} == rows
        found = d.values(shop.out)
        assert len(found) == orders
        assert {one.partition("-")[2] for one in found} <= {str(one) for one in had}


def test_partitions_that_are_added_are_read() -> None:
    shop = Shop(partitions=None)
    with shop.driver() as d:
        d.send(shop.customers, "A", key="a")
        d.cluster.add_partitions("customers", 7)
        d.cluster.append("customers", b"z", b"Zoe", partition=6)
        d.advance(11)
        d.send(shop.orders, "z2")
        assert d.values(shop.out) == ["z2-Zoe"]
        d.crash()
        assert copy_of(d).applied == 0


def test_while_it_may_not_be_read_tasks_go_on_with_what_it_has(
    shop: Shop, d: TestDriver, caplog: pytest.LogCaptureFixture
) -> None:
    d.cluster.deny("customers", read=True)
    d.cluster.append("customers", b"a", b"Ann")
    d.send(shop.orders, "a2")
    assert d.values(shop.out) == ["a1-A", "a2-A"]
    [line] = [one.message for one in caplog.records if "global table" in one.message and one.levelno > logging.INFO]
    assert line.startswith("global table customers: topic customers: TOPIC_AUTHORIZATION_FAILED")
    assert "tasks go on with what it has" in line
    assert copy_of(d).why is not None
    d.cluster.deny("customers")
    d.advance(11)
    d.send(shop.orders, "a3")
    assert d.values(shop.out)[-1] == "a3-Ann"
    assert copy_of(d).why is None


@pytest.mark.parametrize("how", ["denied", "gone"])
def test_one_that_cannot_be_read_at_the_start_holds_up_what_uses_it_only(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, inner = Shop(), MemoryAdmin.describe
    with shop.driver() as d:
        d.send(shop.customers, "A", key="a")
        d.commit()
        copy_of(d).damaged(StateError("no copy"))  # so that there is none
        if how == "denied":
            d.cluster.deny("customers", read=True)
        else:

            def without(admin: MemoryAdmin, names: Sequence[str]) -> Any:
                return inner(admin, [name for name in names if name != "customers"])

            monkeypatch.setattr(MemoryAdmin, "describe", without)
        d.crash()
        d.send(shop.plain, "on")
        d.send(shop.orders, "a1")
        assert d.values(shop.through) == ["on"]
        assert d.values(shop.out) == []
        assert any((why or "").startswith("global table customers is not read yet: topic customers") for why in told(d))
        if how == "denied":
            d.cluster.deny("customers")
        else:
            monkeypatch.undo()
        d.advance(11)
        assert d.values(shop.out) == ["a1-A"]
        assert told(d) == [None, None]


def test_a_partition_that_cannot_be_unpacked_is_named_and_tried_again(shop: Shop, d: TestDriver) -> None:
    log = d.cluster.log(TopicPartition("customers", 0))
    d.cluster.append("customers", b"a", b"Ann", partition=0)
    log.spoilt = log.end - 1
    d.send(shop.orders, "a2")
    assert d.values(shop.out)[-1] == "a2-A"
    assert "customers" in (copy_of(d).why or "") and "spoilt" in (copy_of(d).why or "")
    log.spoilt = None
    d.advance(11)
    d.send(shop.orders, "a3")
    assert d.values(shop.out)[-1] == "a3-Ann"


def test_brokers_that_do_not_answer_hold_up_nothing_that_is_there(shop: Shop, d: TestDriver) -> None:
    for call in ("admin.describe", "consumer.poll"):
        d.cluster.fail_next(call, KafkaUnavailable("no broker"))
    d.advance(11)
    d.advance(11)
    d.send(shop.orders, "a2")
    assert d.values(shop.out)[-1] == "a2-A"


def test_damaged_files_are_read_anew(shop: Shop, d: TestDriver) -> None:
    directory = d.worker.directory / "@global" / "customers"
    d.worker.tables.close()
    for file in directory.glob("*.sst"):
        file.write_bytes(b"nonsense" * 100)
    (directory / "CURRENT").write_text("MANIFEST-999999\n")
    d.crash()
    assert copy_of(d).applied == 8
    d.send(shop.orders, "b2")
    assert d.values(shop.out)[-1] == "b2-B"


@pytest.mark.parametrize("call", ["multi_get", "write"])
def test_one_that_turns_out_to_be_damaged_costs_tasks_nothing(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was done meanwhile is taken back; the tasks' own state is not touched, and no record is at fault."""
    shop = Shop(on_error=[kstream.DeadLetter("set-aside")])
    with TestDriver(shop.app, backend="memory") as d:
        d.send(shop.customers, "A", key="a")
        d.send(shop.orders, "a1")
        d.commit()
        fails = [True]
        inner = getattr(MemoryBackend, call)

        def once(self: MemoryBackend, *args: Any, **named: Any) -> Any:
            table = "customers" in (args[0] if isinstance(args[0], str) else "".join(args[0]))
            if fails and table:
                fails.clear()
                raise StateError("corruption")
            return inner(self, *args, **named)

        monkeypatch.setattr(MemoryBackend, call, once)
        d.send(shop.customers, "B", key="b")
        d.send(shop.orders, "b2")
        d.advance(1)
        assert not fails
        assert d.values(shop.out) == ["a1-A", "b2-B"]
        assert "set-aside" not in d.cluster.topics() or not d.cluster.records("set-aside")


def test_one_that_turns_out_to_be_damaged_while_its_topic_cannot_be_read_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Tasks rest, and say so: they do not abort again and again."""
    shop, inner = Shop(), MemoryBackend.multi_get
    with TestDriver(shop.app, backend="memory") as d:
        d.send(shop.customers, "B", key="b")
        d.send(shop.orders, "a1")
        d.commit()
        d.cluster.deny("customers", read=True)
        d.cluster.append("customers", b"c", b"C")
        d.process()
        fails = [True]

        def once(self: MemoryBackend, store: str, keys: Sequence[bytes]) -> Any:
            if fails and store == "customers":
                fails.clear()
                raise StateError("corruption")
            return inner(self, store, keys)

        monkeypatch.setattr(MemoryBackend, "multi_get", once)
        d.send(shop.orders, "b2")
        assert not fails and not copy_of(d).serves
        assert any("global table customers is not read yet" in (why or "") for why in told(d))
        d.cluster.deny("customers")
        d.advance(11)
        assert d.values(shop.out) == ["a1-None", "b2-B"]


@pytest.mark.parametrize(("hours", "kept"), [(20, True), (22, False)])
@pytest.mark.parametrize("written", [False, True])
def test_a_copy_that_may_have_missed_tombstones_is_not_gone_on_with(
    shop: Shop, d: TestDriver, hours: int, kept: bool, written: bool
) -> None:
    """Kafka's own `delete.retention.ms` is a day; nine tenths of that count. Where nothing came since nothing went."""
    d.worker.tables.close()
    if written:
        d.cluster.append("customers", b"a", None)
        d.cluster.append("customers", b"z", b"Z")
    d.clock.advance(hours * 3600)
    d.crash()
    assert copy_of(d).applied == (0 if not written else 2 if kept else 10)


@pytest.mark.parametrize(("hours", "kept"), [(20, True), (30, False)])
def test_one_that_could_not_be_read_for_so_long_is_read_anew_in_a_worker_that_runs(
    shop: Shop, d: TestDriver, hours: int, kept: bool
) -> None:
    """A row whose tombstone has come and gone meanwhile would stay for ever."""
    d.cluster.deny("customers", read=True)
    d.cluster.append("customers", b"b", b"Bob")
    d.process()
    d.advance(60)
    applied = copy_of(d).applied
    d.clock.advance(hours * 3600)
    d.process()
    d.cluster.deny("customers")
    d.advance(11)
    d.send(shop.orders, "b2")
    assert d.values(shop.out)[-1] == "b2-Bob"
    assert copy_of(d).applied - applied == (1 if kept else 9)
    assert copy_of(d).store.serves == copy_of(d)._places[not kept]


def test_its_topics_own_retention_of_tombstones_counts(shop: Shop, d: TestDriver) -> None:
    d.cluster.configure("customers", {"delete.retention.ms": "60000"})
    d.worker.tables.close()
    d.cluster.append("customers", b"z", b"Z")
    d.clock.advance(61)
    d.crash()
    assert copy_of(d).applied == 9


def test_records_without_a_key_are_left_out_and_counted(
    shop: Shop, d: TestDriver, caplog: pytest.LogCaptureFixture
) -> None:
    d.cluster.configure("customers", {"cleanup.policy": "delete"})  # else Kafka takes none
    d.cluster.append("customers", None, b"nobody", partition=1)
    d.process()
    assert copy_of(d).left_out == 1
    assert "1 records without a key are left out; the first is at customers[1] offset" in caplog.text
    report = report_of(d.worker, StoreSizes(d.clock.monotonic))
    assert [
        one.value for one in report.metrics if one.name == "records_dropped_total" and one.labels == ("no key",)
    ] == [1]


def test_what_a_worker_says_of_it(shop: Shop, d: TestDriver) -> None:
    d.advance(6)  # rows are counted now and then
    report = report_of(d.worker, StoreSizes(d.clock.monotonic))
    [table] = report.tables
    assert (table.name, table.topic, table.lag, table.there, table.why) == ("customers", "customers", 0, True, None)
    assert not report.loading
    found = {one.name: one.value for one in report.metrics if one.name.startswith("global_table")}
    assert found == {"global_table_rows": 8, "global_table_lag_records": 0, "global_table_records_total": 8}


def test_only_workers_of_groups_that_use_it_have_it() -> None:
    app = kstream.App("two")
    rows, left, right = (app.topic(name, key=str, value=str) for name in ("rows", "left", "right"))
    table = app.global_table(rows)
    app.stream(left, group="one").map(table.get).peek(lambda value: None)
    app.stream(right, group="two").peek(lambda value: None)
    with TestDriver(app) as d:
        assert {worker.worker.group: len(worker.tables) for worker in d._workers} == {"one": 1, "two": 0}


def test_its_topic_is_made_compacted_and_one_that_forgets_rows_is_told_of(
    shop: Shop, d: TestDriver, caplog: pytest.LogCaptureFixture
) -> None:
    assert d.cluster.topic("customers").config["cleanup.policy"] == "compact"
    admin, topology, settings = MemoryClients(d.cluster).admin(), shop.app.topology(), d.worker.parts.settings
    counts = d.worker.parts.partitions
    tell(topology, admin, counts, settings)
    assert "global table" not in caplog.text
    d.cluster.configure("customers", {"cleanup.policy": "delete", "retention.ms": "604800000"})
    tell(topology, admin, counts, settings)
    assert (
        "global table customers: topic customers keeps records for 7 days, so a worker that starts later has no older "
        "rows; set cleanup.policy=compact" in caplog.text
    )


def test_a_copy_that_nothing_uses_any_more_is_deleted(shop: Shop, d: TestDriver) -> None:
    old, new = (d.worker.directory / "@global" / name for name in ("old", "new"))
    for one in (old, new):
        one.mkdir()
        (one / "CURRENT").write_text("")
    os.utime(old / "CURRENT", (0, 0))
    d.crash()
    assert not old.exists() and new.exists()


def test_one_that_nothing_uses_is_there_for_queries() -> None:
    app = kstream.App("asked")
    rows, left, right = (app.topic(name, key=str, value=str) for name in ("rows", "left", "right"))
    table = app.global_table(rows)
    app.stream(left, group="one").peek(lambda value: None)
    app.stream(right, group="two").peek(lambda value: None)
    with TestDriver(app) as d:
        d.send(rows, "A", key="a")
        assert dict(d.table(table)) == {"a": "A"}
        assert [len(worker.tables) for worker in d._workers] == [1, 0]
    assert "global table rows" in app.topology().describe()


def test_an_agent_names_what_cannot_be_seen_in_its_code() -> None:
    app = kstream.App("shelf")
    rows, asks, out = (app.topic(name, key=str, value=str) for name in ("rows", "asks", "out"))
    shelf = {"rows": app.global_table(rows)}

    @app.agent(asks, to=out, tables=shelf.values())
    def look(ask: str) -> str:
        return shelf["rows"][ask]

    with TestDriver(app) as d:
        d.send(rows, "A", key="a")
        d.send(asks, "a", key="1")
        assert d.values(out) == ["A"]


def test_its_files_are_no_tasks_to_who_reads_stopped_state() -> None:
    """Whatever it is called."""
    app = kstream.App("numbers")
    rows, asks = app.topic("rows", key=str, value=str, partitions=1), app.topic("asks", key=str, value=str)
    table = app.global_table(rows, name="7")
    app.stream(asks).map(table.get).peek(lambda value: None)
    app.stream(asks).group_by_key().count(name="n")
    with TestDriver(app, backend="rocksdb", partitions=1) as d:
        d.send(rows, "A", key="a")
        d.send(asks, "a", key="a")
        d.commit()
        for one in (*d.worker.tasks.values(), *d.worker.tables.open):
            one.backend.flush()
        state_dir = d.worker.directory.parent
        (state_dir / "app").write_text("numbers")
        with stopped(state_dir, "numbers", "") as found:
            assert found.stores == ["n"]


@pytest.mark.parametrize("denied", [False, True])
def test_the_cache_is_bounded(shop: Shop, denied: bool) -> None:
    with shop.driver(memory="16MiB", memory_state_min=1 << 20) as d:
        store: Any = d.worker.tables.stores["customers"]
        for number in range(300):
            d.cluster.append("customers", b"%d" % number, b"x" * 10_000)
        d.process()
        if denied:  # tasks go on with what there is
            d.cluster.deny("customers", read=True)
            d.cluster.append("customers", b"0", b"new")
            d.process()
        for start in range(0, 300, 50):
            store.rows([b"%d" % number for number in range(start, start + 50)])
            d.process()
            most = max(d.worker.parts.settings.state_memory // 8, 51 * 11_000)
            assert store.cached_bytes <= most
