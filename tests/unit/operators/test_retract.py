"""A table grouped by another key: counts, sums and folds of the rows that there are, whatever they were before."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kstream
from kstream.errors import TopologyError
from kstream.testing import TestDriver
from support.cases import cases


class Person(msgspec.Struct):
    city: str | None
    age: int


def city(person: Person) -> str | None:
    return person.city


def age(person: Person) -> int:
    return person.age


def grown(person: Person) -> bool:
    return person.age > 2


def add(ages: list[int], person: Person) -> list[int]:
    return sorted([*ages, person.age])


def subtract(ages: list[int], person: Person) -> list[int]:
    ages.remove(person.age)
    return ages


class Cities:
    def __init__(self) -> None:
        self.app = app = kstream.App("cities")
        self.people = app.topic("people", key=str, value=Person | None)
        self.counts, self.sums = app.topic("counts", key=str, value=int), app.topic("sums", key=str, value=int)
        table: Any = app.stream(self.people).to_table("people")
        by_city = table.group_by(city, name="by-city", key=str)
        self.count, self.sum = by_city.count(name="count"), by_city.sum(age, name="sum")
        self.ages = by_city.aggregate(list, add, subtract, name="ages", value=list[int])
        self.count.to(self.counts)
        self.sum.to(self.sums)
        self.grown = table.filter(grown).group_by(city, name="grown", key=str).count(name="grown-count")


people = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.one_of(st.none(), st.builds(Person, st.sampled_from(["x", "y", "y", None]), st.integers(1, 4))),
    ),
    max_size=30,
)


@cases
@given(records=people, cuts=st.lists(st.integers(0, 30), max_size=3))
def test_each_group_is_of_the_rows_that_there_are(records: list[tuple[str, Person | None]], cuts: list[int]) -> None:
    cities = Cities()
    wanted: dict[str, list[int]] = defaultdict(list)
    for person in dict(records).values():
        if person is not None and person.city is not None:
            wanted[person.city].append(person.age)
    with TestDriver(cities.app, partitions=2) as driver:
        for at, (key, person) in enumerate(records):
            driver.cluster.append("people", key.encode(), None if person is None else msgspec.json.encode(person))
            if at in cuts:
                driver.process()
                driver.crash()
        found = {key: ages for key, ages in driver.table(cities.ages).items() if ages}
        assert found == {key: sorted(ages) for key, ages in wanted.items()}
        assert {key: n for key, n in driver.table(cities.count).items() if n} == {k: len(v) for k, v in wanted.items()}
        assert {key: n for key, n in driver.table(cities.sum).items() if n} == {k: sum(v) for k, v in wanted.items()}
        grown = {key: len([age for age in ages if age > 2]) for key, ages in wanted.items()}
        assert {key: n for key, n in driver.table(cities.grown).items() if n} == {k: n for k, n in grown.items() if n}


def test_rows_of_no_group_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    app = kstream.App("cities")
    people, counts = app.topic("people", key=str, value=Person | None), app.topic("counts", key=str, value=int)
    app.stream(people).to_table("people").filter(grown).group_by(city, name="by-city", key=str).count(name="n").to(
        counts
    )
    with TestDriver(app, partitions=1) as driver:
        for person in (Person(None, 3), Person(None, 1), None, Person("x", 3), Person(None, 4)):
            driver.send(people, person, key="a")
        driver.crash()
        driver.commit()
        dropped: Counter[str] = Counter()
        for task in driver.worker.tasks.values():
            for operator in task.plan.operators:
                dropped += operator.dropped
        assert dropped == {"no key": 2}  # those that are in the view
        assert driver.values(counts) == [1, 0]
    assert "without a key left out of by-city" in caplog.text


def test_a_change_within_a_group_is_one_update() -> None:
    """As Kafka Streams since KIP-904."""
    cities = Cities()
    with TestDriver(cities.app) as driver:
        for person in (Person("x", 1), Person("x", 3), Person("y", 3), None):
            driver.send(cities.people, person, key="a")
        updates = [(one.key, one.value) for one in driver.records(cities.sums)]
        assert [value for key, value in updates if key == "x"] == [1, 3, 0]
        assert [value for key, value in updates if key == "y"] == [3, 0]


def test_what_functions_do_to_a_row_does_not_show_in_the_table() -> None:
    app = kstream.App("spoilt")
    people = app.topic("people", key=str, value=Person)
    table = app.stream(people).to_table("people")

    def spoil(person: Person) -> str:
        person.age = 99
        return "all"

    counted = table.group_by(spoil, name="all", key=str).count(name="count")
    with TestDriver(app, partitions=1) as driver:
        for age in (1, 2):
            driver.send(people, Person("x", age), key="a")
        assert driver.table(table)["a"] == Person("x", 2)
        assert dict(driver.table(counted)) == {"all": 1}


class Bare:
    nullable = True

    def encode(self, value: object) -> bytes:
        return b""

    def decode(self, data: bytes) -> object:
        return None


def test_what_cannot_be_grouped() -> None:
    app = kstream.App("refused")
    numbers = app.topic("numbers", key=str, value=int)
    counts = app.stream(numbers).group_by_key().count(name="counts")
    with pytest.raises(TopologyError, match=r"group a table of its changes, stream\(\).to_table"):
        counts.group_by(str)
    table = app.stream(app.topic("bare", key=str, value=Bare())).to_table("bare")
    with pytest.raises(TopologyError, match="rows travel in pairs"):
        table.group_by(str)
    ints = app.stream(numbers).to_table("ints")
    with pytest.raises(TopologyError, match="parallelism=0"):
        ints.group_by(str, parallelism=0)
    grouped: Any = ints.group_by(lambda n: n % 2, key=int)
    with pytest.raises(TopologyError, match="takes 1 arguments"):
        grouped.aggregate(int, lambda a, b: a, lambda a: a)
