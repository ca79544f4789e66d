"""Tables with a history."""

from __future__ import annotations

from kstream.codecs.buffered import place_codec
from kstream.codecs.versioned import versions_codec
from kstream.specs.schema import Schema
from kstream.specs.store import StoreSpec


def versions_of(table: StoreSpec) -> StoreSpec:
    """The store of the versions of a table's rows. Its types are those of the rows: it is they that a later version has
    to read."""
    keys = Schema(table.key.kind, place_codec(table.key.codec))
    values = Schema(table.value.kind, versions_codec(table.value.codec))
    return StoreSpec(
        f"{table.name}-versions", keys, values, changelog=table.changelog, backend=table.backend, holds="versions"
    )
