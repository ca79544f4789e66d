"""What one batch did to a store: it can be taken back, all of it, or what was done to one entry."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from kstream.codecs import Codec
from kstream.state.mutations import Mutations

if TYPE_CHECKING:
    from kstream.state.scanning import KeyOrder

V = TypeVar("V")


class Mark:
    """Stands for the bytes of a value."""


UNENCODED, UNCHANGED = Mark(), Mark()
"""In the overlay: to be encoded at commit. Before a batch: as the backend has it."""


class Guarded(Generic[V]):
    """The part of `Store` that the module's text is about."""

    live: dict[bytes, V | None]
    mutations: Mutations[V]
    value_codec: Codec[V]
    encode: Any
    verify: bool
    _watched: bool
    _dirty: dict[bytes, bytes | Mark | None]
    _order: KeyOrder | None
    _before: dict[bytes, bytes | Mark | None] | None  # while it is guarded: entries as of `keep`

    def _fetch(self, keys: Sequence[bytes]) -> None:
        raise NotImplementedError

    def guard(self, on: bool) -> None:
        """From now on what is done can be taken back as far as the last `keep`, or (`on` False) to the last commit
        only. A guarded store takes longer for each entry that is used."""
        self._before = {} if on else None
        self._watched = on or self.verify

    def keep(self) -> None:
        if self._before:
            self._before.clear()

    def take_back(self, keys: Iterable[bytes] | None = None) -> bool:
        """Every entry, or each of these live ones, is what it was at the last `keep`. False where that is not known."""
        before = self._before
        if before is None:
            return False
        keys, decode = list(before if keys is None else keys), self.value_codec.decode
        kept = {key: cast("bytes | None", before[key]) for key in keys if before[key] is not UNCHANGED}
        try:
            values = [None if raw is None else decode(raw) for raw in kept.values()]
        except Exception:  # an earlier batch assigned what cannot be encoded or read back: it comes up at the commit
            return False
        self.live.update(zip(kept, values, strict=True))
        self._dirty.update(kept)
        self._order = None
        self.mutations.scanned.clear()
        for key in keys:
            self.mutations.forget(key)
            if key not in kept:
                self._dirty.pop(key, None)
        self._fetch([key for key in keys if key not in kept])
        return True

    def undo(self, key: bytes, as_of: bytes | None = None) -> bool:
        """What was done to a live entry in place, and is not assigned yet, is gone: it is what these bytes say, or what
        was assigned last. That needs no guard. False where it is not known."""
        raw = self._dirty.get(key, UNCHANGED) if as_of is None else as_of
        if raw is UNENCODED:
            return False
        if raw is UNCHANGED:
            self._fetch([key])
        else:
            try:
                self.live[key] = None if raw is None else self.value_codec.decode(cast("bytes", raw))
            except Exception:  # it comes up at the commit
                return False
        self.mutations.forget(key)
        return True

    def _remember(self, key: bytes) -> None:
        """The entry of `live` is about to be used, and may be changed in place: how it is now is kept, encoded, once
        for each batch, unless it is what the backend has."""
        before = self._before
        if before is not None and key not in before:
            before[key] = self._as_assigned(key) if key in self._dirty else UNCHANGED

    def _remember_all(self, keys: set[bytes]) -> None:
        """The same of these."""
        before = self._before
        if before is None:
            return
        new = keys.difference(before)
        changed = self._dirty.keys() & new
        before.update(dict.fromkeys(new.difference(changed), UNCHANGED))
        for key in changed:
            before[key] = self._as_assigned(key)

    def _as_assigned(self, key: bytes) -> bytes | Mark | None:
        """A changed entry, encoded where that is possible."""
        raw = self._dirty[key]
        if raw is UNENCODED:
            with suppress(Exception):  # that is the failure of an earlier batch, and comes up at the commit
                raw = self._dirty[key] = self.encode(cast("V", self.live.get(key)))
        return raw
