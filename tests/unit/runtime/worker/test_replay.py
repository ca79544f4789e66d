"""Whether local state can go on from where it is, by the marks of all that is kept of a store."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.runtime.worker.replay import fit
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.specs.ttl import TTL
from kstream.state.about import About
from kstream.state.backend import Mark
from kstream.state.changelog import Changelog

WALL, PLAIN = About(form="wall", existing="from_next_write").packed(), About().packed()
STORE, INDEX = "n", "n#expiry"
CHANGELOG = Changelog("app-n-changelog", 0, StoreSpec("n", schema(str, "key"), schema(int, "value"), ttl=TTL(hours=1)))


def asked(**marks: Any) -> tuple[Mark | None, str | None]:
    found = {STORE: marks.get("store"), INDEX: marks.get("index")}
    return fit(found.__getitem__, CHANGELOG, 5, 100, 1000.0, 500.0)


def test_the_oldest_mark_counts_where_all_fit() -> None:
    old, new = Mark(20, 900.0, WALL), Mark(90, 900.0, WALL)
    assert asked(store=new, index=old) == (old, None)
    assert asked(store=old, index=new) == (old, None)


@pytest.mark.parametrize(
    ("store", "index", "reason"),
    [
        (Mark(90, 900.0, PLAIN), Mark(20, 900.0, WALL), "kept with no times"),
        (Mark(20, 900.0, WALL), Mark(90, 900.0, PLAIN), "kept with no times"),
        (Mark(90, 900.0, WALL), Mark(4, 900.0, WALL), "was deleted from the changelog"),
        (Mark(90, 900.0, WALL), Mark(101, 900.0, WALL), "ahead of its changelog"),
        (Mark(90, 900.0, WALL), Mark(80, 400.0, WALL), "days ago"),
        (Mark(90, 900.0, WALL), None, "its expiry index is not there"),
    ],
    ids=["store of another form", "index of another form", "deleted", "ahead", "old", "no index"],
)
def test_each_mark_is_a_reason_to_rebuild(store: Mark, index: Mark | None, reason: str) -> None:
    mark, why = asked(store=store, index=index)
    assert mark is None and why is not None and reason in why


def test_a_store_that_was_never_written_has_no_reason() -> None:
    assert asked() == (None, None)
    assert asked(index=Mark(20, 900.0, WALL)) == (None, None)
