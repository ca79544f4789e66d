"""What `kstream doctor` looks at: this machine, the cluster, the app's topics. Nothing is left behind anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

from kstream.errors import KStreamError

State = Literal["ok", "warning", "error", "unknown"]


class Check(msgspec.Struct):
    """One finding, a line each. `state` unknown: it could not be looked at. `advice` says what to do, if anything."""

    name: str
    state: State
    text: str
    advice: str = ""


def attempt(name: str, look: Callable[[], Check], advice: str) -> Check:
    """The finding of `look`; when the cluster does not answer it, that it is not known, and why."""
    try:
        return look()
    except KStreamError as error:
        return Check(name, "unknown", " ".join(str(error).split()), advice)
