"""The records that the generator makes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from kstream.errors import UsageError
from kstream.partitioning import partition_of
from services.nexmark.generator import Events
from services.nexmark.model import OUT_OF_ORDER, PARTITIONS, Auction, Bid, Person, key_of, topic_of


def test_the_same_seed_makes_the_same_records() -> None:
    assert list(Events(1_000, seed=5)) == list(Events(1_000, seed=5))
    assert list(Events(1_000, seed=5)) != list(Events(1_000, seed=6))


def test_of_fifty_one_is_a_person_and_three_are_auctions() -> None:
    assert Counter(map(type, Events(10_000))) == {Person: 200, Auction: 600, Bid: 9_200}


def test_event_times_are_spaced_by_the_rate_and_out_of_order_within_the_bound_of_the_topics() -> None:
    begins = datetime(2020, 1, 1, tzinfo=UTC)
    times = [event.date_time for event in Events(2_000, rate=100, start=begins, shuffled=400)]
    assert sorted(times) == [begins + timedelta(milliseconds=10 * number) for number in range(2_000)]
    latest = [max(times[: number + 1]) for number in range(2_000)]
    late = max(after - own for after, own in zip(latest, times, strict=True))
    assert timedelta(0) < late <= OUT_OF_ORDER


def test_one_that_would_come_later_than_the_topics_allow_is_refused() -> None:
    with pytest.raises(UsageError, match=r"400 records in any order at 50/s come more than 0:00:04 late"):
        Events(1_000, rate=50, shuffled=400)
    with pytest.raises(UsageError, match=r"at 50/s auctions are open for more than 0:01:00: make more a second"):
        Events(1_000, rate=50)
    with pytest.raises(UsageError, match="are more than 0"):
        Events(0)


def test_people_auctions_and_channels_are_uneven() -> None:
    events = list(Events(100_000))
    bids = [event for event in events if isinstance(event, Bid)]
    sold = [event for event in events if isinstance(event, Auction)]

    def hot(ids: list[int], which: int) -> float:
        return sum(one % 100 == which for one in ids) / len(ids)

    assert hot([bid.auction for bid in bids], 0) == pytest.approx(0.5, abs=0.02)
    assert hot([bid.bidder for bid in bids], 1) == pytest.approx(0.75, abs=0.02)
    assert hot([auction.seller for auction in sold], 0) == pytest.approx(0.75, abs=0.03)
    channels = Counter(bid.channel for bid in bids)
    assert sum(count for _, count in channels.most_common(4)) / len(bids) == pytest.approx(0.5, abs=0.02)
    ranks = Counter(len(str(bid.price)) for bid in bids)  # 100 to 100,000,000 cents
    assert all(count / len(bids) == pytest.approx(1 / 6, abs=0.01) for digits, count in ranks.items() if digits < 9)


def test_some_bids_come_before_their_auction_and_some_auctions_before_their_seller() -> None:
    events = list(Events(20_000, shuffled=1))
    auctions = {event.id: event.date_time for event in events if isinstance(event, Auction)}
    people = {event.id: event.date_time for event in events if isinstance(event, Person)}
    bids = [event for event in events if isinstance(event, Bid) and event.auction in auctions]
    early = sum(bid.date_time < auctions[bid.auction] for bid in bids)
    assert 0.01 < early / len(bids) < 0.1
    sold = [event for event in events if isinstance(event, Auction) and event.seller in people]
    assert 0 < sum(auction.date_time < people[auction.seller] for auction in sold) < len(sold) / 10


def test_the_closing_records_reach_every_partition_of_every_topic() -> None:
    events = Events(1_000)
    closing = list(events.closing())
    where = {(topic_of(type(event)), partition_of(b"%d" % key_of(event), PARTITIONS)) for event in closing}
    assert len(where) == len(closing) == 3 * PARTITIONS
    assert all(event.date_time == events.ends + timedelta(hours=1) for event in closing)
