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

Scope = Literal["keyed", "partition"]
BackendKind = Literal["rocksdb", "memory", "file"]
Holds = Literal[
    "rows", "windows", "windowed ids", "sessions", "recent", "timers", "buffers", "versions", "subscriptions"
]  # fmt: skip
"""What a store has. It decides its class (state/making.py), and what of a key decides about its partition.

- `rows`: whatever, by key.
- `windows`: results, by `Windowed` or `WindowedSpan`. `windowed ids`: the same, by `Windowed` of a `TimerKey`: a key
  and an id.
- `sessions`: of each key the list of its `OpenSession`.
- `recent`: of each key the `Recent` records of Kafka Streams' sliding windows.
- `timers`: those of a processor or agent, by `TimerKey`.
- `buffers`: records of a stream that is joined by time (codecs/buffered.py).
- `versions`: those of the rows of a table (codecs/versioned.py).
- `subscriptions`: by `TimerKey`, whose ids are keys of another table (codecs/foreign.py).
"""


@dataclass(frozen=True, slots=True, eq=False)
class StoreSpec:
    """A keyed store of one task, backed by a changelog topic.

    `keyed`: the store's key is the record's key, so every key has one home partition.
    `partition`: any key, private to the partition that wrote it.

    `changelog` has Kafka's settings of that topic, used when it is created. `backend` is where what is committed lies;
    None: where the app's setting says. `ttl`: how long entries are kept, which only rows can have. `on_large` may trim
    entries that are large. `layout`: what besides the types decides what its entries mean, as the size of its windows
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
    holds: Holds = "rows"
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
        match self.holds:
            case "rows" | "sessions" | "recent":
                return key
            case "windows":
                return key[START:]
            case "windowed ids":
                return key_and_name(key[START:])[0]
            case "timers" | "subscriptions":
                return key_and_name(key)[0]
            case "buffers" | "versions":
                return key[PLACE:]

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
