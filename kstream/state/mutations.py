"""Finds values of a store that user code changed in place and did not assign. Only the TestDriver looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from kstream.codecs import difference
from kstream.errors import MutatedWithoutAssignment

if TYPE_CHECKING:
    from kstream.state.store import Store

V = TypeVar("V")


class Mutations(Generic[V]):
    """What is remembered of one store since its last commit.

    Attributes:
        assigned: how values were encoded when they were assigned, or when expired entries were removed from them.
        given: what was assigned where a copy of it is kept (a TTL per entry).
        defaults: those that were handed out for absent keys, and how they are made.
        read: keys that were read.
        scanned: what was handed out of all entries, a copy of each, and how it was encoded.
    """

    def __init__(self) -> None:
        self.assigned: dict[bytes, bytes] = {}
        self.given: dict[bytes, V] = {}
        self.defaults: dict[bytes, list[tuple[V, Callable[[], V]]]] = {}
        self.read: set[bytes] = set()
        self.scanned: list[tuple[bytes, V, bytes]] = []

    def forget(self, key: bytes) -> None:
        self.read.discard(key)
        self.unassigned(key)
        self.defaults.pop(key, None)

    def unassigned(self, key: bytes) -> None:
        self.assigned.pop(key, None)
        self.given.pop(key, None)

    def copied(self, key: bytes, given: V, kept: V) -> None:
        """One was assigned, and the other is kept: a change of the first is lost. They may be the same."""
        if given is kept:
            self.given.pop(key, None)
        else:
            self.given[key] = given

    def trimmed(self, key: bytes, raw: bytes) -> None:
        """The value of a key was replaced by the one that is encoded so."""
        if key in self.assigned:
            self.assigned[key] = raw
            self.given.pop(key, None)

    def default(self, key: bytes, value: V, make: Callable[[], V]) -> None:
        """One was made for an absent key."""
        self.defaults.setdefault(key, []).append((value, make))

    def handed_out(self, store: Store[V], key: bytes, value: V) -> V:
        """One of all entries, a copy, goes to user code."""
        self.scanned.append((key, value, store.encode(value)))
        return value

    def clear(self) -> None:
        self.read.clear()
        self.scanned.clear()
        self.assigned.clear()
        self.given.clear()
        self.defaults.clear()

    def verify(self, store: Store[V]) -> None:
        """Raises MutatedWithoutAssignment when a value was changed after it was read, or after it was assigned."""
        live, encode, changed = store.live, store.encode, store.changed_keys
        for key, then in self.assigned.items():
            for assigned in (live.get(key), self.given.get(key)):
                if assigned is not None and _differs(store, encode(assigned), then):
                    _refuse(store, key)
        self.assigned.clear()
        self.given.clear()
        for key, made in self.defaults.items():
            if key not in changed and any(_differs(store, encode(value), encode(make())) for value, make in made):
                _refuse(store, key)
        self.defaults.clear()
        for key, value, then in self.scanned:
            if key not in changed and _differs(store, encode(value), then):
                _refuse(store, key)
        self.scanned.clear()
        for key in self.read.difference(changed):
            now = live.get(key)
            if _differs(store, None if now is None else encode(now), store.stored(key)):
                _refuse(store, key)


def copied(store: Store[Any], key: bytes, kind: Callable[[Any], V]) -> V:
    """A copy of what a key has, of this kind (list, dict), for user code: to change it is to lose the change."""
    copy = kind(store.get(key) or ())
    return store.mutations.handed_out(store, key, copy) if store.verify else copy


def _differs(store: Store[V], one: bytes | None, other: bytes | None) -> bool:
    """Other bytes may be the same value: 5 and 5.0 in a field of floats, a set in another order."""
    if one == other:
        return False
    if one is None or other is None:
        return True
    decode = store.value_codec.decode
    return difference(decode(one), decode(other)) is not None


def _refuse(store: Store[V], key: bytes) -> NoReturn:
    raise MutatedWithoutAssignment(
        f"the value of {store.entry(key)} was changed in place and not assigned: "
        f"write table[key] = value, or the change is lost"
    )
