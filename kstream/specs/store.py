"""A state store as it is declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kstream.specs.schema import Schema

Scope = Literal["keyed", "partition"]


@dataclass(frozen=True, slots=True, eq=False)
class StoreSpec:
    """A keyed store of one task, backed by a changelog topic.

    `keyed`: the store's key is the record's key, so every key has one home partition.
    `partition`: any key, private to the partition that wrote it.
    """

    name: str
    key: Schema
    value: Schema
    scope: Scope = "keyed"
