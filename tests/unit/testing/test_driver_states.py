"""The TestDriver shows the states of processors."""

from __future__ import annotations

from typing import Any

import pytest

import kstream
from kstream.errors import TopologyError
from kstream.testing import TestDriver


class Visits(kstream.Processor[str, int, int]):
    last = kstream.ValueState(int, default=0)
    all = kstream.ListState(int)
    by_parity = kstream.MapState(str, int)
    most = kstream.ReducingState(int, max)
    mean = kstream.AggregatingState(list[int], lambda kept, n: [*kept, n], result=lambda kept: sum(kept) / len(kept))
    expires = kstream.ListState(int, ttl=kstream.TTL(hours=1, per="entry"))

    def process(self, value: int, ctx: kstream.ProcessorContext[str, int]) -> None:
        if value < 0:
            self.all.clear()
            return
        self.last.value = value
        self.all.append(value)
        self.by_parity["odd" if value % 2 else "even"] = value
        self.most.add(value)
        self.mean.add(value)
        self.expires.append(value)


def app_of(*names: str) -> tuple[kstream.App, Any]:
    app = kstream.App("visits")
    source = app.topic("in", key=str, value=int)
    for name in names:
        app.stream(source).process(Visits, name=name)
    return app, source


@pytest.mark.parametrize("backend", ["memory", "rocksdb"])
def test_what_is_kept_is_seen_as_the_processor_sees_it(backend: str) -> None:
    app, source = app_of("visits")
    with TestDriver(app, partitions=3, backend=backend) as driver:
        for key, value in (("ann", 3), ("bob", 4), ("ann", 5), ("cleo", 1), ("cleo", -1)):
            driver.send(source, value, key=key)
        driver.commit()
        driver.crash()
        assert dict(driver.table(Visits.last)) == {"ann": 5, "bob": 4, "cleo": 1}
        assert dict(driver.table(Visits.all)) == {"ann": [3, 5], "bob": [4]}
        assert driver.table(Visits.by_parity)["ann"] == {"odd": 5}
        assert driver.table(Visits.most)["ann"] == 5
        assert driver.table(Visits.mean)["ann"] == 4.0 == driver.table("visits-mean")["ann"]
        driver.advance(minutes=30)
        driver.send(source, 7, key="ann")
        driver.advance(minutes=31)
        assert dict(driver.table(Visits.expires)) == {"ann": [7]}


def test_a_state_of_several_processors_is_asked_for_by_name() -> None:
    app, source = app_of("a", "b")
    with TestDriver(app) as driver:
        driver.send(source, 1, key="ann")
        with pytest.raises(TopologyError, match=r"this ValueState is the state of several .* one of a-last, b-last"):
            driver.table(Visits.last)
        assert dict(driver.table("b-last")) == {"ann": 1}


def test_what_is_no_state_of_the_app_is_refused_with_those_that_there_are() -> None:
    app, _ = app_of("visits")
    none = kstream.App("none")
    none.stream(none.topic("in", key=str, value=int)).group_by_key().count(name="n")
    with TestDriver(app) as driver:
        with pytest.raises(TopologyError, match=r"a table, not 'visits': .* there are: visits-last, visits-all, "):
            driver.table("visits")
        with pytest.raises(TopologyError, match="takes a table"):
            driver.table(3)  # type: ignore[call-overload]
    with TestDriver(none) as driver, pytest.raises(TopologyError, match=r"not this ListState: .* there are: none$"):
        driver.table(Visits.all)
