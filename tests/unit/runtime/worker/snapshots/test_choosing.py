"""Which snapshot is worth its way: the one that leaves less of the changelogs to replay."""

from __future__ import annotations

from typing import Any

import pytest

from kstream.runtime.worker.snapshots.choosing import Bound, Choice
from kstream.runtime.worker.snapshots.drafting import stores_of
from kstream.runtime.worker.snapshots.fetching import NO_BETTER
from kstream.specs.schema import schema
from kstream.specs.store import StoreSpec
from kstream.specs.ttl import TTL, Cleanup, Sweep
from kstream.state.backend import Mark
from kstream.state.changelog import Changelog
from kstream.state.expiry import families_of, index_of
from kstream.state.memory import MemoryBackend
from kstream.state.replayed import marked
from kstream.state.snapshots.manifest import Manifest, StoredStore

END = 1000


def a_spec(*cleanup: Cleanup) -> StoreSpec:
    return StoreSpec("seen", schema(str, "key"), schema(int, "value"), ttl=TTL(hours=1, cleanup=cleanup))


def why_not(spec: StoreSpec, stored: StoredStore) -> str | None:
    """For a task of this store that has nothing."""
    changelog = Changelog("changelog", 0, spec)
    choice = Choice([Bound("seen", changelog, 0, END)], lambda _: None, 0.0, 1e9)
    manifest = Manifest(
        app="a",
        part="p",
        partition=0,
        number=1,
        taken=0.0,
        backend="rocksdb",
        stores={"seen": stored},
        id="1",
        files=[],
    )
    return choice.fits(manifest)


class _Task:
    """A task as far as a draft looks at its stores."""

    def __init__(self, then: StoreSpec, now: StoreSpec) -> None:
        class Declared:
            families = families_of(now)

        self.stores, self.backend = {"seen": Declared}, MemoryBackend(list({*families_of(then), *families_of(now)}))
        self.backend.write({}, marked(then, Mark(900, 0.0, Changelog("changelog", 0, then).packed)))


@pytest.mark.parametrize(
    ("then", "now", "fits"),
    [((), (), True), ((), (Sweep(),), False), ((Sweep(),), (Sweep(),), True), ((Sweep(),), (), True)],
    ids=["none", "added", "both", "removed"],
)
def test_a_snapshot_without_the_index_that_a_store_has_now_is_not_fetched(then: Any, now: Any, fits: bool) -> None:
    """It was, and then the store was rebuilt from its changelog all the same."""
    task: Any = _Task(a_spec(*then), a_spec(*then))
    stored = stores_of(task)["seen"]
    assert stored.families == ["seen", *([index_of("seen")] if then else [])]
    assert why_not(a_spec(*now), stored) == (None if fits else NO_BETTER)


def test_of_an_older_snapshot_it_is_not_known() -> None:
    mark = Mark(900, 0.0, Changelog("changelog", 0, a_spec(Sweep())).packed)
    assert why_not(a_spec(Sweep()), StoredStore.of(mark)) is None
