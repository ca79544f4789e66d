"""What a processor keeps of each key: attributes of its class, each a store of the app.

    class Sessions(kstream.Processor[str, Event, Session]):
        session = kstream.ValueState(Session)

`self.session` is that of the key at hand. What is read is live: after changing a value in place, assign it back.
Each key's state of one attribute is one entry, read and written as a whole: a list or map of thousands is written anew
with each commit in which it changes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, Self, TypeVar, cast, overload

from kstream.dsl.functions import check_called
from kstream.dsl.table import default_factory
from kstream.errors import TableError, TopologyError
from kstream.specs.schema import UNKNOWN, Kind, Schema, returned_by, schema
from kstream.specs.store import BackendKind, StoreSpec, check_backend
from kstream.state.mutations import copied

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from kstream.specs.ttl import TTL
    from kstream.state.store import Store

T = TypeVar("T")
V = TypeVar("V")
A = TypeVar("A")
R = TypeVar("R")


class _Place(Protocol):
    raw_key: bytes | None
    processor: Any


def _changes_in_place(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return True
    return value.__class__.__hash__ is object.__hash__


class State:
    """Common form of the states below. Declared in the class of a processor; the processor of each task has its own.

    Args:
        ttl: how long a key's state is kept after it was written last (`kstream.TTL`); None: for ever.
        backend: where what is committed lies: "rocksdb", "memory" or "file"; None: where the setting says.
    """

    _instead: ClassVar = "value"

    def __init__(self, ttl: TTL | None, backend: BackendKind | None) -> None:
        self._ttl, self._backend = ttl, backend
        self._attribute = ""
        self._store: Store[Any] | None = None
        self._place: _Place | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self._attribute = name

    def __get__(self, instance: object | None, owner: type) -> Self:
        return self if instance is None else instance.__dict__.get(self._attribute, self)

    def __set__(self, instance: object, value: object) -> None:
        raise TableError(
            f"self.{self._attribute} is a state: to change it, write self.{self._attribute}.{self._instead}"
        )

    def spec(self, processor: str, key: Schema) -> StoreSpec:
        """Its store.

        Raises:
            TopologyError: no codec can carry its type, or an argument cannot be.
        """
        what = f"processor {processor!r}: {self._attribute}"
        check_backend(self._backend, what)
        return StoreSpec(
            f"{processor}-{self._attribute}", key, self._values(what), backend=self._backend, ttl=self._ttl
        )

    def _values(self, what: str) -> Schema:
        raise NotImplementedError

    def bind(self, instance: object, store: Store[Any], place: _Place) -> None:
        """Gives the instance a state of its own, over a store."""
        mine = copy.copy(self)
        mine._store, mine._place = store, place
        instance.__dict__[self._attribute] = mine

    def shown(self, kept: Any) -> Any:
        """What users see of what is kept of a key."""
        return kept

    def clear(self) -> None:
        """The key has none any more."""
        store, key = self._here()
        if store.get(key) is not None:
            store.delete(key)

    def _here(self) -> tuple[Store[Any], bytes]:
        """The store, and the key at hand."""
        if self._place is None or self._store is None or (key := self._place.raw_key) is None:
            raise TableError(
                f"state {self._attribute!r} was used outside a record or timer: use it in process() and on_timer()"
            )
        return self._store, key

    def _folded(self, fold: Callable[[Any, Any], Any], found: Any, value: Any) -> Any:
        """What is kept, with a value folded in. A fold that raises may have changed half of it: then the record or
        timer fails, even where the processor catches the error."""
        try:
            return fold(found, value)
        except Exception as error:
            if self._place is not None and _changes_in_place(found):
                self._place.processor.spoil(error)
            raise

    def _get(self) -> Any:
        store, key = self._here()
        return store.get(key)

    def _put(self, value: Any) -> None:
        store, key = self._here()
        store.put(key, value)


class ValueState(State, Generic[T]):
    """One value of each key. (Flink's ValueState.)

    Args:
        kind: its type, or a codec.
        default: what a key without one has: a value, or a class or function that makes one. None: None.
    """

    @overload
    def __init__(
        self: ValueState[V | None], kind: Kind[V], *, default: None = None, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: ValueState[V], kind: Kind[V], *, default: Callable[[], V] | V, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: ValueState[V | None], kind: TypeForm[V], *, default: None = None, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: ValueState[V], kind: TypeForm[V], *, default: Callable[[], V] | V, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    def __init__(
        self, kind: Any, *, default: Any = None, ttl: TTL | None = None, backend: BackendKind | None = None
    ) -> None:
        super().__init__(ttl, backend)
        self._kind, self._default = kind, default
        self._make: Callable[[], Any] | None = None

    def spec(self, processor: str, key: Schema) -> StoreSpec:
        spec = super().spec(processor, key)
        self._make = default_factory(self._default, spec)
        return spec

    def _values(self, what: str) -> Schema:
        return schema(self._kind, what)

    @property
    def value(self) -> T:
        """The value, or the default. Assigning it writes it; None is as `clear()`."""
        store, key = self._here()
        found: Any = store.get(key)
        if found is None and self._make is not None:
            found = self._make()
            if store.verify:
                store.mutations.default(key, found, self._make)
        return found  # type: ignore[no-any-return]

    @value.setter
    def value(self, value: T) -> None:
        if value is None:
            self.clear()
        else:
            self._put(value)


class ListState(State, Generic[T]):
    """A list of each key. (Flink's ListState.) A list that is empty is none.

    Args:
        kind: the type of what is in it.
    """

    _instead = "value, or append to it"

    @overload
    def __init__(self, kind: type[T], *, ttl: TTL | None = None, backend: BackendKind | None = None) -> None: ...
    @overload
    def __init__(self, kind: TypeForm[T], *, ttl: TTL | None = None, backend: BackendKind | None = None) -> None: ...
    def __init__(self, kind: Any, *, ttl: TTL | None = None, backend: BackendKind | None = None) -> None:
        super().__init__(ttl, backend)
        self._kind = kind

    def _values(self, what: str) -> Schema:
        return schema(list[self._kind], what)  # type: ignore[name-defined]

    def append(self, value: T) -> None:
        found = self._get() or []
        found.append(value)
        self._put(found)

    def extend(self, values: Iterable[T]) -> None:
        more = list(values)  # first: what raises here has changed nothing, and the values may be those of this list
        if more:
            found = self._get() or []
            found.extend(more)
            self._put(found)

    @property
    def value(self) -> list[T]:
        """A copy. Assigning it writes it."""
        return copied(*self._here(), list)

    @value.setter
    def value(self, value: list[T]) -> None:
        if value:
            self._put(value)
        else:
            self.clear()

    def __iter__(self) -> Iterator[T]:
        return iter(self._get() or ())

    def __len__(self) -> int:
        return len(self._get() or ())


class MapState(State, MutableMapping[T, V], Generic[T, V]):
    """A dict of each key. (Flink's MapState.) One that is empty is none. After changing a value of it in place, assign
    it back: `self.carts[item] = cart`.

    Args:
        keys, values: the types of what is in it.
    """

    _instead = "[key] or .value"

    @overload
    def __init__(
        self, keys: type[T], values: type[V], *, ttl: TTL | None = None, backend: BackendKind | None = None
    ) -> None: ...
    @overload
    def __init__(
        self, keys: type[T], values: TypeForm[V], *, ttl: TTL | None = None, backend: BackendKind | None = None
    ) -> None: ...
    def __init__(
        self, keys: Any, values: Any, *, ttl: TTL | None = None, backend: BackendKind | None = None
    ) -> None:  # fmt: skip
        super().__init__(ttl, backend)
        self._kinds = keys, values

    def _values(self, what: str) -> Schema:
        return schema(cast("Any", dict).__class_getitem__(self._kinds), what)

    @property
    def value(self) -> dict[T, V]:
        """A copy. Assigning it writes it."""
        return copied(*self._here(), dict)

    @value.setter
    def value(self, value: dict[T, V]) -> None:
        if value:
            self._put(value)
        else:
            self.clear()

    def __getitem__(self, key: T) -> V:
        return (self._get() or {})[key]  # type: ignore[no-any-return]

    def __setitem__(self, key: T, value: V) -> None:
        found = self._get()
        if found is None:
            found = {}
        found[key] = value
        self._put(found)

    def __delitem__(self, key: T) -> None:
        found = self._get() or {}
        del found[key]
        if found:
            self._put(found)
        else:
            self.clear()

    def __iter__(self) -> Iterator[T]:
        return iter(self._get() or ())

    def __len__(self) -> int:
        return len(self._get() or ())

    def clear(self) -> None:
        State.clear(self)

    __hash__ = object.__hash__
    __eq__ = object.__eq__


class ReducingState(State, Generic[T]):
    """The values that were added, made one two at a time. (Flink's ReducingState.)

    Args:
        kind: their type.
        fold: takes what there is and the next one, and returns one of the same type. The first value is as it is.
    """

    _instead = "add(...)"

    def __init__(
        self, kind: Kind[T], fold: Callable[[T, T], T], *, ttl: TTL | None = None, backend: BackendKind | None = None
    ) -> None:
        super().__init__(ttl, backend)
        self._kind, self._fold = kind, fold

    def _values(self, what: str) -> Schema:
        check_called(self._fold, "ReducingState", 2)
        return schema(self._kind, what)

    def add(self, value: T) -> None:
        found = self._get()
        self._put(value if found is None else self._folded(self._fold, found, value))

    @property
    def value(self) -> T | None:
        """What there is; None where nothing was added."""
        return self._get()  # type: ignore[no-any-return]


class AggregatingState(State, Generic[V, A, R]):
    """The values that were added, folded into an accumulator. (Flink's AggregatingState.)

    Args:
        initial: makes the accumulator of a key without one; a class serves as its type too.
        fold: takes the accumulator and a value, and returns the accumulator, changed or new.
        result: of an accumulator; without one the accumulator is the result.
        kind: the type of the accumulator, where `initial` does not say.
    """

    _instead = "add(...)"

    @overload
    def __init__(
        self: AggregatingState[V, A, A], initial: Callable[[], A], fold: Callable[[A, V], A], *, result: None = None,
        kind: Kind[A] | None = None, ttl: TTL | None = None, backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: AggregatingState[V, A, R], initial: Callable[[], A], fold: Callable[[A, V], A], *,
        result: Callable[[A], R], kind: Kind[A] | None = None, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None: ...  # fmt: skip
    def __init__(
        self, initial: Callable[[], Any], fold: Callable[[Any, Any], Any], *,
        result: Callable[[Any], Any] | None = None, kind: Any = None, ttl: TTL | None = None,
        backend: BackendKind | None = None,
    ) -> None:  # fmt: skip
        super().__init__(ttl, backend)
        self._initial, self._fold, self._result, self._kind = initial, fold, result, kind

    def _values(self, what: str) -> Schema:
        for function, values in ((self._initial, 0), (self._fold, 2), (self._result, 1)):
            if function is not None:
                check_called(function, "AggregatingState", values)
        kind = self._kind or returned_by(self._initial)
        kind = returned_by(self._fold) if kind is UNKNOWN else kind
        return schema(kind, what)

    def add(self, value: V) -> None:
        found = self._get()
        made = self._fold(self._initial(), value) if found is None else self._folded(self._fold, found, value)
        if made is None:
            raise TopologyError(f"the fold of state {self._attribute!r} returned None: it returns the accumulator")
        self._put(made)

    @property
    def value(self) -> R | None:
        """The result; None where nothing was added."""
        found = self._get()
        return None if found is None else self.shown(found)

    def shown(self, kept: Any) -> Any:
        return kept if self._result is None else self._result(kept)
