"""The TestDriver notices values that are changed in place where all entries of a table are gone through."""

from __future__ import annotations

import pytest

import kstream
from kstream.errors import MutatedWithoutAssignment, ProcessingError
from kstream.testing import TestDriver

app = kstream.App("scans")
orders = app.topic("orders", key=str, value=str, partitions=1)
lists = app.table("lists", key=str, value=list[int], scope="partition")


@app.agent(orders)
def take(order: str, ctx: kstream.Context[str]) -> None:
    match order:
        case "set":
            lists[ctx.key] = [1]
        case "values":
            for value in lists.values():
                value.append(9)
        case "items":
            for _, value in lists.items():
                value.append(9)
        case "range":
            for _, value in lists.range("a", "z"):
                value.append(9)
        case "prefix":
            for _, value in lists.prefix("k"):
                value.append(9)
        case "assigned":
            for key, value in list(lists.items()):
                value.append(9)
                lists[key] = value
        case "looked at":
            assert list(lists.values()) == [[1]]
        case "fails":
            for value in lists.values():
                value.append(9)
            raise ValueError("after the change")


@pytest.mark.parametrize("how", ["values", "items", "range", "prefix"])
@pytest.mark.parametrize("committed", [True, False])
def test_a_change_that_would_be_lost_fails_the_commit(how: str, committed: bool) -> None:
    with TestDriver(app) as driver:
        driver.send(orders, "set", key="k")
        if committed:
            driver.commit()
        with pytest.raises(ProcessingError, match="changed in place and not assigned") as caught:
            driver.send(orders, how, key="k")
            driver.commit()
        assert isinstance(caught.value.__cause__, MutatedWithoutAssignment)


@pytest.mark.parametrize("how, left", [("assigned", [1, 9]), ("looked at", [1])])
def test_one_that_is_assigned_is_kept(how: str, left: list[int]) -> None:
    with TestDriver(app) as driver:
        driver.send(orders, "set", key="k")
        driver.commit()
        driver.send(orders, how, key="k")
        driver.commit()
        assert dict(driver.table(lists)) == {"k": left}


def test_one_of_a_record_that_failed_is_not_meant() -> None:
    with TestDriver(app) as driver:
        driver.send(orders, "set", key="k")
        driver.commit()
        with pytest.raises(ProcessingError, match="after the change"):
            driver.send(orders, "fails", key="k")


def test_a_change_that_was_not_assigned_fails_at_the_end_too() -> None:
    """The test ends without a look at anything: the last commit is that of the driver's end."""
    app = kstream.App("carts")
    adds = app.topic("adds", key=str, value=str)
    carts = app.table("carts", key=str, value=list[str], default=list)

    @app.agent(adds)
    async def put(stream: kstream.AgentStream[str, str]) -> None:
        async for item in stream:
            carts["x"].append(item)

    with pytest.raises(ProcessingError) as caught, TestDriver(app, partitions=1) as driver:
        driver.send(adds, "apple", key="a")
    assert isinstance(caught.value.__cause__, MutatedWithoutAssignment)
    assert (caught.value.topic, caught.value.offset) == ("adds", 0)
    with pytest.raises(ZeroDivisionError), TestDriver(app, partitions=1) as driver:
        driver.send(adds, "apple", key="a")
        raise ZeroDivisionError  # the test's own failure is told


def test_a_changed_default_is_found_where_another_is_made_after_it() -> None:
    """`table[key].append(...)`, and a look at what is there then: that is a new default."""
    app = kstream.App("defaults")
    adds, sizes = app.topic("adds", key=str, value=str), app.topic("sizes", key=str, value=int)
    carts = app.table("carts", key=str, value=list[str], default=list)

    @app.agent(adds, to=sizes)
    def put(item: str, ctx: kstream.Context[str]) -> int:
        carts[ctx.key].append(item)
        return len(carts[ctx.key])

    class Put(kstream.Processor[str, str, int]):
        cart = kstream.ValueState(list[str], default=list)

        def process(self, value: str, ctx: kstream.ProcessorContext[str, int]) -> None:
            self.cart.value.append(value)
            ctx.emit(len(self.cart.value))

    other = kstream.App("states")
    items = other.topic("adds", key=str, value=str)
    other.stream(items).process(Put, name="put")
    for one, topic in ((app, adds), (other, items)):
        with TestDriver(one, partitions=1) as driver:
            driver.send(topic, "apple", key="a")
            with pytest.raises(ProcessingError, match="changed in place and not assigned"):
                driver.commit()
            driver.close(commit=False)
