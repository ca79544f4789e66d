"""The stores of a task that nobody has open, read as they lie on disk. Nothing is written, not even a lock.

Values come without the times that some forms have before them; what has expired and was not removed is still there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final

from rocksdict import AccessType, Rdict

from kstream.errors import StateError
from kstream.state.about import form_in
from kstream.state.backend import Mark
from kstream.state.expiry import store_of
from kstream.state.forms import PLAIN, plain_in
from kstream.state.rocksdb.backend import FAMILY
from kstream.state.rocksdb.batch import unpacked_mark
from kstream.state.rocksdb.memory import RocksMemory
from kstream.state.rocksdb.scan import MARK_KEY, Scan

COUNTED: Final = 100_000
"""Entries of a store that are counted one by one, in a tenth of a second."""

_IN_FILES: Final = (re.compile(r"# entries=(\d+)"), re.compile(r"# deletions=(\d+)"))


class RocksReader:
    """One task's directory.

    Raises:
        StateError: it is none, or damaged.
    """

    def __init__(self, directory: Path, memory: RocksMemory) -> None:
        self.directory = directory
        options = memory.options()
        try:
            names = Rdict.list_cf(str(directory), options)
            access = AccessType.read_only(False)
            self._db = Rdict(str(directory), options, dict.fromkeys(names, options), access_type=access)
            self._families = {
                name.removeprefix(FAMILY): self._db.get_column_family(name) for name in names if name.startswith(FAMILY)
            }
        except Exception as error:
            raise self._mapped(error, "open") from None

    @property
    def stores(self) -> list[str]:
        return [name for name in self._families if store_of(name) == name]

    def mark(self, store: str) -> Mark | None:
        """None for a store that was never written."""
        try:
            packed: bytes | None = self._families[store].get(MARK_KEY)
        except Exception as error:
            raise self._mapped(error, f"read of the mark of store {store!r}") from None
        return None if packed is None else unpacked_mark(packed)

    def multi_get(self, store: str, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            found: list[bytes | None] = list(self._families[store].get(list(keys)))  # type: ignore[arg-type]
        except Exception as error:
            raise self._mapped(error, f"read of store {store!r}") from None
        form = self.form(store)
        return found if form == PLAIN else [None if raw is None else plain_in(form, raw) for raw in found]

    def scan(self, store: str, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries in the order of their keys."""
        scan, form = Scan(store, self._families[store].snapshot(), self._mapped, start), self.form(store)
        return scan if form == PLAIN else ((key, plain_in(form, raw)) for key, raw in scan)

    def stored(self, store: str) -> Iterator[tuple[bytes, bytes]]:
        """The same, with the values in the store's form."""
        return Scan(store, self._families[store].snapshot(), self._mapped)

    def form(self, store: str) -> str:
        """Of its entries (state/forms.py)."""
        mark = self.mark(store)
        return PLAIN if mark is None else form_in(mark.about)

    def entries(self, store: str) -> int:
        """How many: exactly up to COUNTED, above that about.

        RocksDB's estimate of keys is 0 where a database was opened for reading only. What its files have in them counts
        an entry for each that it is in.
        """
        family = self._families[store]
        counted = sum(1 for _ in islice(Scan(store, family.snapshot(), self._mapped), COUNTED + 1))
        if counted <= COUNTED:
            return counted
        said = str(family.property_value("rocksdb.aggregated-table-properties"))
        whole, deleted = (int(found[1]) if (found := one.search(said)) else 0 for one in _IN_FILES)
        return max(counted, whole - 2 * deleted - 1)

    def size_bytes(self, store: str) -> int:
        """About how many bytes."""
        return self._families[store].property_int_value("rocksdb.estimate-live-data-size") or 0

    def close(self) -> None:
        with suppress(Exception):
            while self._families:
                self._families.popitem()[1].close()
            self._db.close()

    def _mapped(self, error: Exception, doing: str) -> Exception:
        return StateError(f"the state in {self.directory} cannot be read ({doing}): {error}")


def is_damage(error: StateError) -> bool:
    """Whether files are missing, or have in them what nobody wrote. Any other reason may be gone the next time: the
    process has no file descriptors left, or the system does not let it read them."""
    text = str(error)
    return ("Corruption: " in text or "No such file" in text) and "Too many open files" not in text
