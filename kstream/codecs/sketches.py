"""HyperLogLog: about how many different values there were, in some kilobytes.

The sketch is that of Apache DataSketches. What is stored are its own bytes, in their compact form of the type HLL_4,
with the version that they begin with: Java's `HllSketch.heapify` reads them. They hang on the values that came, in
their order, and on nothing else: not on when they were written and read back in between.

This module imports `datasketches`, and with it NumPy: whoever declares a sketch imports it, and nobody else.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from datasketches import HLL_4, hll_sketch, hll_union

from kstream.errors import CodecError

MODE: Final = 7
"""The byte whose lowest two bits say what follows: a list of hashes, a set of them, or registers."""
_SET: Final = 1
_SET_STARTS: Final = 12


class HyperLogLog:
    """A sketch with 2^`lg_k` registers."""

    __slots__ = ("sketch",)

    def __init__(self, lg_k: int, sketch: Any = None) -> None:
        self.sketch: Any = hll_sketch(lg_k, HLL_4) if sketch is None else sketch

    def add(self, text: str) -> None:
        try:
            self.sketch.update(text or "\0")  # the library ignores empty text
        except TypeError:
            text.encode()  # says which letter is none: half of a surrogate pair
            raise

    def merged(self, other: HyperLogLog) -> HyperLogLog:
        """The sketch of the values of both."""
        lg_k: int = self.sketch.lg_config_k
        union = hll_union(lg_k)
        for one in (self, other):  # it goes through their hashes as they lie: so in one order, whatever their past
            union.update(hll_sketch.deserialize(one.written()))
        return HyperLogLog(lg_k, union.get_result(HLL_4))

    def written(self) -> bytes:
        data: bytes = self.sketch.serialize_compact()
        if data[MODE] & 3 == _SET and len(data) > _SET_STARTS:  # in the order of a hash table, which goes with its past
            hashes = array("I", data[_SET_STARTS:])
            return data[:_SET_STARTS] + array("I", sorted(hashes)).tobytes()
        return data

    def estimate(self) -> int:
        estimate: float = self.sketch.get_estimate()
        return round(estimate)

    def __sizeof__(self) -> int:
        size: int = self.sketch.get_updatable_serialization_bytes()  # the library's own memory
        return object.__sizeof__(self) + size

    def __repr__(self) -> str:
        return f"about {self.estimate()} different"


@dataclass(frozen=True, slots=True)
class HyperLogLogCodec:
    """Of sketches with 2^`lg_k` registers."""

    lg_k: int
    version: ClassVar = 1
    """Of the form, as the library counts."""
    nullable: ClassVar = True

    def encode(self, value: HyperLogLog) -> bytes:
        return value.written()

    def decode(self, data: bytes) -> HyperLogLog:
        """
        Raises:
            CodecError: these are no such bytes, or of another number of registers.
        """
        try:
            sketch = hll_sketch.deserialize(data)
        except Exception as error:  # whatever the library says
            raise CodecError(f"this is no HyperLogLog of DataSketches: {error}") from error
        if sketch.lg_config_k != self.lg_k:
            raise CodecError(f"a HyperLogLog of 2^{sketch.lg_config_k} registers, and not of 2^{self.lg_k}")
        return HyperLogLog(self.lg_k, sketch)
