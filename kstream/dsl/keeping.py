"""Aggregations that keep something else than they tell: a mean is told, a sum and a count are kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from kstream.dsl import folds, quantiles
from kstream.dsl.functions import check_called, check_takes
from kstream.errors import TopologyError
from kstream.specs.schema import Kind, returned_by, schema

FINEST: Final = 0.002  # 256 KiB
COARSEST: Final = 0.2
RELATIVE_ERROR: Final = 1.04
"""Of a HyperLogLog, times the root of its registers. One that was never merged is a fifth better."""


class Keeping(NamedTuple):
    """How such an aggregation is made.

    Attributes:
        initial, fold: of what is kept.
        merge: takes what two sessions kept, and returns what both have.
        kept: the type of it, or a codec.
        result: of what is kept.
        kind: the type of the result.
        layout: what besides the types decides what is kept (specs/layout.py).
    """

    initial: Callable[[], Any]
    fold: Callable[[Any, Any], Any]
    merge: Callable[[Any, Any], Any]
    kept: Any
    result: Callable[[Any], Any]
    kind: Any
    layout: str = ""


def mean(function: Callable[[Any], Any]) -> Keeping:
    check_takes(function, 1)
    return Keeping(folds.Mean, folds.averaging(function), folds.both_means, folds.Mean, folds.averaged, float)


def distinct(function: Callable[[Any], Any], of: Kind[Any] | None, error: float | None) -> Keeping:
    """How many different results the function has. `error`: how far off it may be; None: it is exact.

    Raises:
        TopologyError: no sketch has this error, or there is no library that makes one.
    """
    check_called(function, "count_distinct", 1)
    codec = schema(of or returned_by(function), "the results of count_distinct", key=True).codec
    if error is None:
        return Keeping(set, folds.distinguishing(function, codec), set.union, set[str], len, int)
    lg_k = _registers(error)
    try:
        from kstream.codecs.sketches import HyperLogLog, HyperLogLogCodec
    except ImportError as missing:
        raise TopologyError(
            f"count_distinct(error=...) needs datasketches (pip install 'kstream[sketches]'): {missing}"
        ) from missing
    fold = folds.sketching(function, codec)
    layout = f"HyperLogLog with 2^{lg_k} registers"
    return Keeping(
        lambda: HyperLogLog(lg_k), fold, HyperLogLog.merged, HyperLogLogCodec(lg_k), HyperLogLog.estimate, int, layout
    )


def _registers(error: float) -> int:
    """The logarithm of how many registers have this error."""
    if type(error) not in (int, float) or not FINEST <= error <= COARSEST:
        raise TopologyError(
            f"count_distinct: error={error!r}: give it the share by which results may be off, from {FINEST} to "
            f"{COARSEST}, or leave it out, and they are exact"
        )
    return math.ceil(2 * math.log2(RELATIVE_ERROR / error))


def quantile(function: Callable[[Any], Any], at: Sequence[float], error: float) -> Keeping:
    """Raises TopologyError where `at` or `error` cannot be."""
    check_takes(function, 1)
    asked = quantiles.check_at(at)
    quantiles.check_error(error)
    return Keeping(
        folds.nothing, quantiles.ranging(function, error), quantiles.merged, quantiles.Ranges,
        quantiles.telling(asked, error), list[float], f"quantiles to {error:g}",
    )  # fmt: skip
