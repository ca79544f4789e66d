"""How the memory of a worker is shared out: each share is a fraction of the whole, between a least and a most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kstream.errors import ConfigError

if TYPE_CHECKING:
    from kstream.config import Settings

SHARES: Final = ("state", "fetch", "producer", "overlay")
"""What memory is for: what is committed (RocksDB and live objects), records fetched ahead, records on their way out,
changes not yet committed."""


def share(settings: Settings, name: str) -> int:
    """Bytes of one worker for one of `SHARES`."""
    part = int(settings.memory * getattr(settings, f"memory_{name}_fraction"))
    most: int | None = getattr(settings, f"memory_{name}_max")
    least: int = getattr(settings, f"memory_{name}_min")
    return max(least, part if most is None else min(part, most))


def check_budget(settings: Settings) -> None:
    """Raises ConfigError: the fractions are more than the whole, a least is above its most, or the least of all is more
    than there is."""
    total = sum(getattr(settings, f"memory_{name}_fraction") for name in SHARES)
    if total > 1.0 + 1e-9:
        raise ConfigError(f"memory_{'|'.join(SHARES)}_fraction: together {total:g}, more than 1 (the whole of memory)")
    for name in SHARES:
        least, most = (getattr(settings, f"memory_{name}_{bound}") for bound in ("min", "max"))
        if most is not None and least > most:
            raise ConfigError(f"memory_{name}_min: {least} bytes are more than memory_{name}_max ({most})")
    shared = sum(share(settings, name) for name in SHARES)
    if shared > settings.memory:
        raise ConfigError(
            f"memory_{'|'.join(SHARES)}_min: with them the shares are {shared} bytes, more than memory "
            f"({settings.memory})"
        )
