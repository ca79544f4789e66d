"""A state store as it is declared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kstream.specs.schema import Schema

Scope = Literal["keyed", "partition"]


@dataclass(frozen=True, slots=True, eq=False)
class StoreSpec:
    """A keyed store of one task, backed by a changelog topic.

    `keyed`: the store's key is the record's key, so every key has one home partition.
    `partition`: any key, private to the partition that wrote it.

    `changelog` has Kafka's settings of that topic, used when it is created.
    """

    name: str
    key: Schema
    value: Schema
    scope: Scope = "keyed"
    changelog: Mapping[str, str] = field(default_factory=dict)
