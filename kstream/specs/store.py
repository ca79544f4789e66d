"""A state store as it is declared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from kstream.codecs.buffered import PLACE
from kstream.codecs.timers import key_and_name
from kstream.codecs.windowed import START
from kstream.errors import TopologyError
from kstream.specs.schema import Schema

if TYPE_CHECKING:  # most stores have none
    from kstream.specs.ttl import TTL
    from kstream.specs.windows import Windows

Scope = Literal["keyed", "partition"]
BackendKind = Literal["rocksdb", "memory", "file"]


@dataclass(frozen=True, slots=True, eq=False)
class StoreSpec:
    """A keyed store of one task, backed by a changelog topic.

    `keyed`: the store's key is the record's key, so every key has one home partition.
    `partition`: any key, private to the partition that wrote it.

    `changelog` has Kafka's settings of that topic, used when it is created. `backend` is where what is committed lies;
    None: where the app's setting says. `ttl`: how long entries are kept. `on_large` may trim entries that are large.
    `windows`: its keys are `Windowed`, of these windows. `sessions`: its values are lists of `OpenSession`. `sliding`:
    they are the `Recent` records of Kafka Streams' sliding windows, which are so many ms apart. `timers`: it has those
    of a processor, by `TimerKey`. `buffered`: it has records of a stream that is joined by time
    (codecs/buffered.py). `versions`: it has those of the rows of a table (codecs/versioned.py). `with_ids`: the keys of
    its windows are `TimerKey`, a key and an id. `subscriptions`: so are its keys, and the ids are keys of another table
    (codecs/foreign.py). `layout`: what besides the types decides what its entries mean, as the size of its windows
    (specs/layout.py); "": nothing does.
    """

    name: str
    key: Schema
    value: Schema
    scope: Scope = "keyed"
    changelog: Mapping[str, str] = field(default_factory=dict)
    backend: BackendKind | None = None
    ttl: TTL | None = None
    on_large: Callable[[Any, Any], Any] | None = None
    windows: Windows | None = None
    sessions: bool = False
    sliding: int = 0
    timers: bool = False
    buffered: bool = False
    versions: bool = False
    subscriptions: bool = False
    with_ids: bool = False
    layout: str = ""

    def __post_init__(self) -> None:
        """Raises TopologyError where `ttl` is something else."""
        if self.ttl is not None:
            from kstream.specs.ttl import check_ttl

            check_ttl(self.ttl, f"table {self.name!r}")
            if self.ttl.per == "entry" and (get_origin(self.value.kind) or self.value.kind) not in (dict, list):
                raise TopologyError(
                    f"table {self.name!r}: ttl= with per='entry' is for values that are dict[...] or list[...], not "
                    f"{self.value}"
                )

    def home_key(self, key: bytes) -> bytes:
        """What of an encoded key decides about its partition: that of a window, a timer or a buffer lies where its
        records do."""
        if self.timers or self.subscriptions:
            return key_and_name(key)[0]
        if self.buffered or self.versions:
            return key[PLACE:]
        if self.windows is None:
            return key
        return key_and_name(key[START:])[0] if self.with_ids else key[START:]

    @property
    def form(self) -> str:
        """Of its entries: see state/forms.py."""
        if self.ttl is None:
            return "plain"
        return f"{self.ttl.time}-entries" if self.ttl.per == "entry" else self.ttl.time


def check_backend(backend: object, what: str) -> None:
    """Raises TopologyError unless it is one, or None. `what` has it, for the message: "table 'a'"."""
    kinds = get_args(BackendKind)
    if backend is not None and backend not in kinds:
        raise TopologyError(f"{what}: backend={backend!r} is not one of {', '.join(kinds)}")
