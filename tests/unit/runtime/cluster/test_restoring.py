"""Which offsets a restore commits, where sub-topologies moved between isolation groups."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

import kstream
from kstream.codecs.shapes import shape_of
from kstream.config import Settings
from kstream.errors import StoredTypeChanged, UsageError
from kstream.runtime.cluster.restoring import look
from kstream.state.savepoint import Format, SavedOffset, SavedStore, SavedTask, SavedTopic, SavedType, Savepoint
from kstream.testing import MemoryCluster
from kstream.testing.clients import MemoryClients
from kstream.topology import DEFAULT_GROUP

Offsets = dict[str, list[int]]


def app_of(*steps: tuple[str, str | None]) -> kstream.App:
    """Steps on the topic `in`: "n" and "m" count, anything else is an agent; each in an isolation group."""
    app = kstream.App("shop")
    source = app.topic("in", key=str, value=int)
    for name, group in steps:
        if name in ("n", "m"):
            app.stream(source, group=group).group_by_key().count(name=name)
        else:
            app.agent(source, name=name, group=group)(len)
    return app


def saved(*parts: tuple[str, int, tuple[str, ...]], form: Format = "native") -> Savepoint:
    """Isolation groups with their offset of both partitions of `in`, and their stores."""
    tasks = [
        SavedTask(f"in@{group}/{n}", group, n, [SavedOffset("in", n, offset)], stores=list(stores))
        for group, offset, stores in parts
        for n in range(2)
    ]
    known = {name: SavedStore("str", "int", "keyed", 2) for _, _, stores in parts for name in stores}
    return Savepoint(
        id="0123456789ab", name="first", app="shop", taken=1.0, program="0.1.0", format=form,
        topics={"in": SavedTopic(None, 2)}, stores=known, tasks=tasks,
    )  # fmt: skip


def offsets(app: kstream.App, savepoint: Savepoint) -> Offsets:
    cluster = MemoryCluster()
    cluster.create_topic("in", 2)
    plan = look(
        app.topology(), MemoryClients(cluster).admin(), Settings(default_partitions=2), savepoint,
        rename={}, as_app=None, allow_dropped=False,
    )  # fmt: skip
    return {group: [entry[0] for _, entry in sorted(own.items())] for group, own in plan.offsets.items() if own}


WAS = DEFAULT_GROUP


@pytest.mark.parametrize("form", ["native", "canonical"])
def test_what_moved_goes_on_where_its_state_was(form: Format) -> None:
    savepoint = saved((WAS, 7, ("n",)), form=form)
    assert offsets(app_of(("n", "fast")), savepoint) == {"shop-fast": [7, 7]}
    assert offsets(app_of(("n", None)), savepoint) == {"shop": [7, 7]}


def test_two_that_change_places_keep_the_offsets_of_their_state() -> None:
    """Those of the group that each is in now are another's."""
    savepoint = saved((WAS, 7, ("n",)), ("fast", 3, ("m",)))
    assert offsets(app_of(("n", "fast"), ("m", None)), savepoint) == {"shop": [3, 3], "shop-fast": [7, 7]}


def test_what_has_no_state_moves_too() -> None:
    assert offsets(app_of(("mail", "fast")), saved((WAS, 7, ()))) == {"shop-fast": [7, 7]}
    assert offsets(app_of(("mail", None)), saved(("fast", 7, ()))) == {"shop": [7, 7]}


def test_of_several_that_became_one_without_state_nothing_is_left_out() -> None:
    assert offsets(app_of(("mail", "new")), saved((WAS, 7, ()), ("fast", 3, ()))) == {"shop-new": [3, 3]}


def test_a_step_that_is_new_beside_those_that_were_there_begins_as_new_ones_do() -> None:
    assert offsets(app_of(("n", None), ("mail", "fast")), saved((WAS, 7, ("n",)))) == {"shop": [7, 7]}


def test_states_of_different_offsets_are_not_put_together() -> None:
    savepoint = saved((WAS, 7, ("n",)), ("fast", 3, ("m",)))
    with pytest.raises(UsageError, match=r"isolation groups .* which were at different offsets of topic in"):
        offsets(app_of(("n", None), ("m", None)), savepoint)
    same = saved((WAS, 7, ("n",)), ("fast", 7, ("m",)))
    assert offsets(app_of(("n", None), ("m", None)), same) == {"shop": [7, 7]}


@pytest.mark.parametrize("form", ["native", "canonical"])
def test_windows_of_another_size_are_refused(form: Format) -> None:
    app = kstream.App("shop")
    group = app.stream(app.topic("in", key=str, value=int)).group_by_key()
    group.window(kstream.Tumbling(minutes=10), grace=timedelta(0)).count(name="n")
    (store,) = (store for part in app.topology().parts for store in part.stores)
    savepoint = saved((WAS, 7, ("n",)), form=form)

    def made_of(layout: str) -> Savepoint:
        types = [SavedType("n", shape_of(store.key.kind), shape_of(store.value.kind), layout)]
        return msgspec.json.decode(msgspec.json.encode(msgspec.structs.replace(savepoint, types=types)), type=Savepoint)

    with pytest.raises(StoredTypeChanged, match=r"store 'n' was written for windows of 1:00:00, .* 0:10:00 now"):
        offsets(app, made_of("windows of 1:00:00"))
    for fits in ("windows of 0:10:00", ""):
        assert offsets(app, made_of(fits)) == {"shop": [7, 7]}
