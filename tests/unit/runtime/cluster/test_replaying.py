"""Dead letters replayed and purged on a Kafka in memory; SIGKILL on a real one is in tests/faults/test_dlq.py."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest

import kstream
from kstream.errors import AbortRequired, InstanceFenced, KafkaUnavailable, KStreamError, ProducerLost, UsageError
from kstream.runtime.cluster import replaying
from kstream.runtime.cluster.dead_letters import Filter, Letter, Place, Span, scan, source_topics, span_of
from kstream.runtime.cluster.handled import Handled, Mark, key_of, read_handled
from kstream.runtime.cluster.replaying import Handling, Outcome
from kstream.runtime.cluster.routes import Routes
from kstream.specs.policy import marks_topic
from kstream.testing import TestDriver
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster
from kstream.testing.log import MemoryRecord
from kstream.types import Headers, TopicPartition

LETTERS, HANDLED = "shop-dead-letters", "shop-dead-letters-handled"
OURS = Filter("shop")
RECORDS = [(b"a", b"1"), (b"b", b"2"), (None, b"3"), (b"a", None), (b"a", b"4")]


def why(
    topic: str = "orders", partition: int = 0, offset: int = 0, app: str = "shop"
) -> list[tuple[str, bytes | None]]:
    return [
        ("__streams.errors.exception", b"builtins.ValueError"),
        ("__streams.errors.topic", topic.encode()),
        ("__streams.errors.partition", b"%d" % partition),
        ("__streams.errors.offset", b"%d" % offset),
        ("kstream.app", app.encode()),
        ("kstream.agent", b"price"),
    ]


class Shop:
    """Five dead letters of two partitions of orders, in two partitions."""

    def __init__(self, records: Sequence[tuple[bytes | None, bytes | None]] = RECORDS) -> None:
        self.cluster = MemoryCluster()
        self.clients = MemoryClients(self.cluster)
        self.admin = self.clients.admin()
        self.cluster.create_topic("orders", 3)
        self.cluster.create_topic(LETTERS, 2)
        for number, (key, value) in enumerate(records):
            own: Headers = [("trace", b"%d" % number), ("empty", None)]
            self.letter(key, value, 1000 + number, [*own, *why("orders", number % 3, number)], number % 2)

    def letter(
        self, key: bytes | None, value: bytes | None, timestamp: int, headers: Headers, partition: int = 0
    ) -> None:
        self.cluster.append(LETTERS, key, value, timestamp, headers, partition)

    def letters(self, wanted: Filter = OURS) -> Iterator[tuple[Span, Letter]]:
        span = span_of(self.admin, LETTERS)
        for letter in scan(self.clients, self.admin, span, wanted.places):
            if wanted.wants(letter) and wanted.is_ours(letter):
                yield span, letter

    def handling(self) -> Handling:
        made = Handling(self.clients, self.admin, "shop", lambda: 1.5)
        made.start()
        return made

    def replay(self, wanted: Filter = OURS, to: str | None = None, inputs: Sequence[str] = ("orders",)) -> Outcome:
        partitions = {name: info.partitions for name, info in self.cluster.topics().items()}
        with closing(self.handling()) as handling:
            ids = {name: one.id for name, one in self.admin.describe([*inputs]).result().items() if one.id}
            return handling.replay(self.letters(wanted), Routes(inputs, partitions, to, ids=ids))

    def purge(self, wanted: Filter = OURS) -> tuple[Outcome, dict[TopicPartition, int]]:
        with closing(self.handling()) as handling:
            outcome = handling.purge(self.letters(wanted))
            return outcome, handling.delete_handled(span_of(self.admin, LETTERS), wanted)

    def orders(self, topic: str = "orders") -> list[MemoryRecord]:
        return self.cluster.records(topic)

    def handled(self) -> Handled:
        return read_handled(self.clients, self.admin, "shop")


@pytest.fixture
def shop() -> Shop:
    return Shop()


class TestReplay:
    def test_records_go_back_as_they_were(self, shop: Shop) -> None:
        outcome = shop.replay()
        assert (outcome.replayed, outcome.left, outcome.before) == ({"orders": 5}, {}, 0)
        found = sorted(shop.orders(), key=lambda one: one.timestamp)
        assert [(one.key, one.value) for one in found] == RECORDS
        assert [(one.partition, one.timestamp) for one in found] == [(n % 3, 1000 + n) for n in range(5)]
        assert list(found[3].headers or ()) == [
            ("trace", b"3"), ("empty", None), ("kstream.replayed", b"shop-dead-letters:1:1"), ("kstream.replays", b"1"),
        ]  # fmt: skip

    def test_repeated_it_does_nothing(self, shop: Shop) -> None:
        shop.replay()
        outcome = shop.replay()
        assert (outcome.replayed, outcome.before) == ({}, 5) and len(shop.orders()) == 5

    def test_what_was_replayed_into_a_topic_that_is_gone_is_not_there(self, shop: Shop) -> None:
        """Records that are loaded again into a new topic lie at the offsets of old ones, with the same timestamps."""
        shop.replay()
        shop.cluster.delete_topic("orders")
        shop.cluster.create_topic("orders", 3)
        for number, (key, value) in enumerate(RECORDS):
            shop.letter(key, value, 1000 + number, why("orders", number % 3, number))
        outcome = shop.replay()
        assert (outcome.replayed, outcome.again, outcome.before) == ({"orders": 5}, 0, 5)
        for number, (key, value) in enumerate(RECORDS):
            shop.letter(key, value, 1000 + number, why("orders", number % 3, number))
        outcome = shop.replay()
        assert (outcome.replayed, outcome.again, outcome.before) == ({}, 5, 10)
        assert len(shop.orders()) == 5

    def test_a_filter_leaves_the_others(self, shop: Shop) -> None:
        places = frozenset({Place(LETTERS, 1, 1)})
        assert shop.replay(Filter("shop", places=places)).replayed == {"orders": 1}
        assert shop.replay().replayed == {"orders": 4}
        assert len(shop.orders()) == 5

    def test_the_order_of_a_partition_is_kept_over_transactions(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replaying, "BATCH", 2)
        for n in range(20):  # time stamps that fall
            shop.letter(b"a", b"x%d" % n, 900 - n, why("orders", 2, 10 + n))
        shop.replay()
        values = [one.value for one in shop.orders() if one.partition == 2 and (one.value or b"").startswith(b"x")]
        assert values == [b"x%d" % n for n in range(20)]

    def test_record_and_mark_are_one_transaction(self, shop: Shop) -> None:
        shop.replay()
        transactions = {id(one.transaction) for topic in ("orders", HANDLED) for one in shop.cluster.records(topic)}
        assert len(transactions) == 1
        assert {one.producer for one in shop.orders()} == {"shop-dlq"}

    def test_a_partition_that_is_no_more_gives_way_to_the_keys(self, shop: Shop) -> None:
        shop.letter(b"z", b"9", 9, why("orders", 7, 70))
        shop.letter(b"y", b"8", 9, [("__streams.errors.topic", b"orders")])
        assert shop.replay().replayed == {"orders": 7}
        by_key = {one.key: one.partition for one in shop.orders() if one.key in (b"y", b"z")}
        assert by_key == {key: shop.cluster.choose_partition("orders", key) for key in (b"y", b"z")}

    def test_a_letter_does_not_choose_where_we_write(self, shop: Shop) -> None:
        shop.cluster.create_topic("secrets")
        shop.letter(b"a", b"evil", 1, why("secrets"))
        shop.letter(b"a", b"lost", 1, [])
        shop.letter(b"a", b"gone", 1, why("old"))
        outcome = shop.replay(inputs=("orders", "old"))
        assert {reason.split(":")[0]: len(places) for reason, places in outcome.left.items()} == {
            "secrets is no input of the app": 1, "where they come from is not known": 1,
            "there is no topic old any more": 1,
        }  # fmt: skip
        assert shop.cluster.records("secrets") == [] and outcome.replayed == {"orders": 5}
        assert shop.replay(to="secrets").replayed == {"secrets": 3}, "one who says so may"
        assert shop.replay(to="secrets").replayed == {}

    def test_a_record_that_would_be_deleted_at_once_stays(self, shop: Shop) -> None:
        span_and_letter = next(shop.letters())
        day = {"retention.ms": "86400000"}
        for config, now, left in (
            (day, 86_400.0, 0), (day, 86_402.0, 1), ({"retention.ms": "-1"}, 1e9, 0),
            ({**day, "cleanup.policy": "compact"}, 1e9, 0),
            ({**day, "message.timestamp.type": "LogAppendTime"}, 1e9, 0),
        ):  # fmt: skip
            routes = Routes(["orders"], {"orders": 3}, None, {"orders": config}, now)
            found = routes.of(span_and_letter[1])
            assert isinstance(found, str) is bool(left), (config, now, found)
        assert "orders keeps records for 24 hours by their timestamps" in str(
            Routes(["orders"], {"orders": 3}, None, {"orders": day}, 1e9).of(span_and_letter[1])
        )

    def test_letters_of_others_stay(self, shop: Shop) -> None:
        shop.letter(b"a", b"1", 1, why(app="mill"))
        assert shop.replay().replayed == {"orders": 5}

    def test_a_record_with_several_letters_goes_back_once(self, shop: Shop) -> None:
        """Two tasks that read one topic, or a letter that was written twice: whoever reads the topic sees both."""
        for _ in range(2):
            shop.letter(b"b", b"2", 1001, why("orders", 1, 1))  # about the record of the second one
        shop.letter(b"b", b"2", 1001, why("orders", 1, 99))  # another record that looks the same
        shop.letter(b"b", b"other", 1001, why("orders", 1, 1))  # of a topic that was made anew
        outcome = shop.replay()
        assert (outcome.replayed, outcome.again) == ({"orders": 7}, 2)
        shop.letter(b"b", b"2", 1001, why("orders", 1, 1))
        outcome = shop.replay()
        assert (outcome.replayed, outcome.again, outcome.before) == ({}, 1, 9)

    def test_what_is_refused_is_left_and_the_others_are_not(self, shop: Shop) -> None:
        shop.cluster.configure("orders", {"cleanup.policy": "compact"})
        outcome = shop.replay()
        ((reason, places),) = outcome.left.items()
        assert "a compacted topic takes no record without a key" in reason and places == [Place(LETTERS, 0, 1)]
        assert outcome.replayed == {"orders": 4} and len(shop.orders()) == 4
        shop.cluster.configure("orders", {"cleanup.policy": "delete"})
        assert shop.replay().replayed == {"orders": 1}

    def test_a_full_queue_is_waited_for(self, shop: Shop) -> None:
        shop.cluster.produce_buffer_limit = 1
        assert shop.replay().replayed == {"orders": 5}

    def test_no_right_to_write(self, shop: Shop) -> None:
        shop.cluster.deny("orders", write=True)
        with pytest.raises(KafkaUnavailable, match=r"TOPIC_AUTHORIZATION_FAILED.*run it again"):
            shop.replay()
        shop.cluster.deny("orders")
        assert shop.replay().replayed == {"orders": 5}

    def test_of_two_the_later_one_goes_on(self, shop: Shop) -> None:
        first = shop.handling()
        second = shop.handling()
        with pytest.raises(UsageError, match="another kstream dlq replay or purge of shop has taken over"):
            first.replay(shop.letters(), Routes(["orders"], {"orders": 3}))
        assert second.replay(shop.letters(), Routes(["orders"], {"orders": 3})).replayed == {"orders": 5}
        assert len(shop.orders()) == 5

    def test_what_the_first_one_committed_the_second_one_knows(
        self, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(replaying, "BATCH", 2)
        first, routes = shop.handling(), Routes(["orders"], {"orders": 3})
        seconds: list[Outcome] = []

        def interrupted() -> Iterator[tuple[Span, Letter]]:
            for number, one in enumerate(shop.letters()):
                if number == 4:  # two transactions are through
                    with closing(shop.handling()) as second:
                        seconds.append(second.replay(shop.letters(), routes))
                yield one

        with pytest.raises(UsageError, match="taken over"):
            first.replay(interrupted(), routes)
        assert (seconds[0].replayed, seconds[0].before) == ({"orders": 3}, 2)
        assert sorted(one.timestamp for one in shop.orders()) == [1000, 1001, 1002, 1003, 1004]


CALLS = ("init_transactions", "begin", "produce", "commit")
FAULTS = [
    (call, error, after)
    for call in CALLS
    for error in (ProducerLost, InstanceFenced, AbortRequired)
    for after in (False, True)
    if (call, error, after) != ("commit", AbortRequired, True)  # what was committed is not to be aborted
]


@pytest.mark.parametrize(
    "call,error,after",
    FAULTS,
    ids=[f"{'after' if after else 'before'}-{call}-{e.__name__}" for call, e, after in FAULTS],
)
def test_whatever_fails_when_each_record_comes_once(
    call: str, error: type[KStreamError], after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each call of the producer fails, at each turn, before or after it took effect; then it is run again."""
    monkeypatch.setattr(replaying, "BATCH", 2)
    for skip in itertools.count():
        shop = Shop()
        fault = shop.cluster.faults.plan(f"producer.{call}", error("planned"), after=after, skip=skip)
        for _ in range(2):
            try:
                shop.replay()
            except UsageError as raised:
                assert str(raised.__cause__) == "planned"
        assert sorted(one.timestamp for one in shop.orders()) == [1000, 1001, 1002, 1003, 1004]
        if not fault.struck:
            assert skip > 0
            break
        assert shop.replay().before == 5


class TestHandled:
    def test_a_topic_made_anew_has_new_letters(self, shop: Shop) -> None:
        shop.replay()
        shop.cluster.delete_topic(LETTERS)
        shop.cluster.create_topic(LETTERS, 2)
        shop.letter(b"a", b"new", 7, why("orders", 0, 5))
        assert shop.replay().replayed == {"orders": 1}

    def test_what_is_no_mark_is_passed_over_and_an_odd_one_counts(self, shop: Shop) -> None:
        shop.handling().close()
        for key, value in ((None, b"x"), (b"x", b"x"), (b"a:b:c", b"x"), (key_of(Place(LETTERS, 0, 0)), b"\xff")):
            shop.cluster.write(TopicPartition(HANDLED, 0), key, value, 1, None)
        assert shop.replay().before == 1

    def test_marks_are_kept_when_the_log_is_compacted(self, shop: Shop) -> None:
        shop.replay()
        shop.cluster.compact(HANDLED)
        assert shop.replay().before == 5

    def test_the_newest_only(self, shop: Shop) -> None:
        shop.replay()
        assert len(read_handled(shop.clients, shop.admin, "shop", newest=3)) == 2, "one offset is the marker's"

    def test_without_the_topic_nothing_is_handled(self, shop: Shop) -> None:
        assert len(shop.handled()) == 0 and HANDLED not in shop.cluster.topics()

    def test_the_topic_is_compacted(self, shop: Shop) -> None:
        shop.replay()
        info = shop.cluster.topic(marks_topic("shop"))
        assert (info.partitions, info.config["cleanup.policy"], info.config["retention.ms"]) == (1, "compact", "-1")

    def test_a_mark_says_what_and_where(self, shop: Shop) -> None:
        shop.replay()
        span, letter = next(shop.letters())
        mark = shop.handled().of(letter, span)
        assert mark == Mark(1, "replayed", 1500, span.id, "orders", "orders:0:0", letter.digest, "topic-1")


class TestPurge:
    def test_what_is_given_up_is_not_replayed(self, shop: Shop) -> None:
        outcome, deleted = shop.purge()
        assert outcome.purged == 5 and deleted == {TopicPartition(LETTERS, 0): 3, TopicPartition(LETTERS, 1): 2}
        assert shop.replay().replayed == {} and shop.orders() == []
        assert list(shop.letters()) == []

    def test_nothing_behind_one_that_is_not_handled_is_deleted(self, shop: Shop) -> None:
        places = frozenset({Place(LETTERS, 0, 0), Place(LETTERS, 0, 2), Place(LETTERS, 1, 1)})
        outcome, deleted = shop.purge(Filter("shop", places=places))
        assert (outcome.purged, deleted) == (3, {TopicPartition(LETTERS, 0): 1})
        assert [letter.place for _, letter in shop.letters()] == [
            Place(LETTERS, 0, 1), Place(LETTERS, 0, 2), Place(LETTERS, 1, 0), Place(LETTERS, 1, 1),
        ]  # fmt: skip
        assert shop.replay().replayed == {"orders": 2}
        assert shop.purge()[1] == {TopicPartition(LETTERS, 0): 3, TopicPartition(LETTERS, 1): 2}, "all are handled now"

    def test_letters_of_others_are_neither_marked_nor_deleted(self) -> None:
        shop = Shop([])
        shop.letter(b"a", b"1", 1, why())
        shop.letter(b"a", b"1", 1, why(app="mill"))
        shop.letter(b"a", b"2", 1, why(offset=1))
        outcome, deleted = shop.purge()
        assert (outcome.purged, deleted) == (2, {TopicPartition(LETTERS, 0): 1})

    def test_marks_of_letters_that_are_gone_are_forgotten(self, shop: Shop) -> None:
        places = frozenset({Place(LETTERS, 0, 0), Place(LETTERS, 0, 2)})
        shop.replay(Filter("shop", places=places))
        assert len(shop.handled()) == 2
        shop.cluster.truncate(LETTERS, 0, 1)  # by retention
        shop.purge(Filter("shop", places=frozenset({Place(LETTERS, 1, 0)})))
        assert len(shop.handled()) == 1, "0:0 and 1:0 are gone, 0:2 is behind one that is not handled"
        shop.purge()
        assert len(shop.handled()) == 0
        shop.letter(b"a", b"new", 7, why("orders", 0, 50), 0)
        assert shop.replay().replayed == {"orders": 1}

    @pytest.mark.parametrize("call", ["admin.delete_records", "producer.commit"])
    def test_broken_off_it_can_be_repeated(self, shop: Shop, call: str) -> None:
        for skip in range(2):
            fault = shop.cluster.faults.plan(call, ProducerLost("planned"), after=True, skip=skip)
            try:
                shop.purge()
            except KStreamError:
                assert fault.struck
        shop.purge()
        assert list(shop.letters()) == [] and len(shop.handled()) == 0

    def test_a_compacted_topic_deletes_nothing(self, shop: Shop) -> None:
        shop.cluster.configure(LETTERS, {"cleanup.policy": "compact"})
        with pytest.raises(KafkaUnavailable, match="POLICY_VIOLATION"):
            shop.purge()
        assert len(shop.handled()) == 5


class TestWithAnApp:
    """From the record that fails to the record that does not, in real tasks."""

    def test_a_replay_that_fails_again_is_a_new_letter_and_one_sees_that(self) -> None:
        good = False

        def price(n: int) -> int:
            return n if good else 1 // n

        app = kstream.App("shop", on_error=[kstream.DeadLetter()])
        orders = app.topic("orders", key=str, value=int, partitions=1)
        prices = app.topic("prices", key=str, value=int)
        app.stream(orders).map(price).to(prices)
        with TestDriver(app) as d:
            clients = MemoryClients(d.cluster)

            def replay() -> Outcome:
                span = span_of(clients.admin(), LETTERS)
                with closing(Handling(clients, clients.admin(), "shop")) as handling:
                    handling.start()
                    letters = ((span, one) for one in scan(clients, clients.admin(), span) if OURS.is_ours(one))
                    outcome = handling.replay(letters, Routes(["orders"], {"orders": 1}))
                d.process()
                d.commit()
                return outcome

            d.send(orders, 0, key="a", timestamp=1234, headers=[("trace", b"7")])
            d.commit()
            assert d.values(prices) == [] and replay().replayed == {"orders": 1}
            span = span_of(clients.admin(), LETTERS)
            first, second = scan(clients, clients.admin(), span)
            assert (first.replays, second.replays) == (0, 1)
            assert second.source == Place("orders", 0, 1)
            assert dict(second.headers)["kstream.replayed"] == str(first.place).encode()
            good = True
            assert replay().replayed == {"orders": 1}
            assert [(one.key, one.value) for one in d.records(prices)] == [("a", 0)]
            last = d.cluster.records("orders")[-1]
            assert (last.key, last.value, last.timestamp) == (b"a", b"0", 1234)
            assert list(last.headers or ()) == [
                ("trace", b"7"), ("kstream.replayed", str(second.place).encode()), ("kstream.replays", b"2"),
            ]  # fmt: skip
            assert replay().before == 2

    def test_what_failed_behind_a_repartition_goes_back_there_and_is_counted_once(self) -> None:
        """Not to the input: what is before the repartition was done with the record already."""
        good = False

        def add(total: int, n: int) -> int:
            if n == 5 and not good:
                raise ValueError(n)
            return total + n

        app = kstream.App("shop", on_error=[kstream.DeadLetter()])
        orders = app.topic("orders", key=str, value=int, partitions=1)
        copies = app.topic("copies", key=str, value=int)
        stream = app.stream(orders)
        stream.to(copies)
        total = stream.group_by(lambda n: "all", key=str, name="all").aggregate(int, add, name="total")
        with TestDriver(app) as d:
            clients = MemoryClients(d.cluster)
            for n in (1, 5, 1):
                d.send(orders, n, key="a")
            d.commit()
            assert d.table(total)["all"] == 2 and len(d.values(copies)) == 3
            span = span_of(clients.admin(), LETTERS)
            (letter,) = scan(clients, clients.admin(), span)
            assert letter.source and letter.source.topic == "shop-all-repartition"
            good = True
            for before in (0, 1):
                with closing(Handling(clients, clients.admin(), "shop")) as handling:
                    handling.start()
                    inputs = source_topics(app.topology())
                    counts = {name: info.partitions for name, info in d.cluster.topics().items()}
                    assert handling.replay([(span, letter)], Routes(inputs, counts)).before == before
            d.process()
            d.commit()
            assert d.table(total)["all"] == 7
            assert len(d.values(copies)) == 3
            assert len(list(scan(clients, clients.admin(), span_of(clients.admin(), LETTERS)))) == 1
