"""Durations and sizes as people write them: "200ms", "5m", "512MiB"."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
}  # fmt: skip
_FOLDED: Final = {unit.lower(): factor for unit, factor in _BYTES.items()}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")

DURATION: Final = 'a duration: "200ms", "10s", "5m", "1h", or a number of seconds'
SIZE: Final = 'a size: "512MiB", "1GiB", or a number of bytes'


def seconds(value: object) -> float:
    """A duration in seconds, from text with a unit, a number of seconds or a timedelta.

    Raises:
        ValueError: it is none of these; the message says what is accepted.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = (match[2].lower() or "s") if match else ""
    if match is None or unit not in _SECONDS:
        raise ValueError(f"is not {DURATION}")
    return round(float(match[1]) * _SECONDS[unit], 9)


def size(value: object) -> int:
    """A size in bytes, from text with a unit (KiB is 1024 bytes, kB 1000) or a number of bytes.

    Raises:
        ValueError: it is neither; the message says what is accepted.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    unit = (match[2].lower() or "b") if match else ""
    if match is None or unit not in _FOLDED:
        raise ValueError(f"is not {SIZE}")
    return int(Decimal(match[1]) * _FOLDED[unit])  # exact, beyond 2**53 too


def show_seconds(value: float) -> str:
    """A duration as `seconds` reads it, in the largest unit of which it has whole halves: 200ms, 1.25s, 1.5m, 1d."""
    for unit in ("d", "h", "m"):
        if value >= _SECONDS[unit] and value * 2 % _SECONDS[unit] == 0:
            return _plain(value / _SECONDS[unit]) + unit
    return _plain(value * 1000) + "ms" if 0 < value < 1 else _plain(value) + "s"


def show_size(value: int) -> str:
    """A size in the largest unit that divides it, as `size` reads it: 512MiB, 1048588B."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def _plain(value: float) -> str:
    return f"{value:.9f}".rstrip("0").rstrip(".")
