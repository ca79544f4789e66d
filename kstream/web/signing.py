"""Requests that prove to know the token without sending it.

Where an instance is asked is known from Kafka, and whoever may write to the topic of announcements could name an
address of their own: a token sent there would be theirs. So instances and `app.query()` sign what they ask: an HMAC
(RFC 2104) over the method, the host that is asked, path, query, body and time, with a key made of the token and the
app's name. A signature is good for that one request at that one host, for a minute. An address that another app has
taken meanwhile does not answer it, though both have one token.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

SCHEME: Final = "kstream"
GOOD_FOR: Final = 60.0
"""Seconds by which the clocks of who asks and who answers may differ."""
ONLY: Final = "/state"
"""The paths that signed requests may ask for begin with it."""


def key_of(token: str, app: str) -> bytes:
    """What requests among an app's instances are signed with."""
    return hmac.new(token.encode(), f"{SCHEME}\n{app}".encode(), hashlib.sha256).digest()


def sign(key: bytes, method: str, host: str, target: str, body: bytes = b"", now: float | None = None) -> str:
    """The value of the header `Authorization`. `target` is path and query, as they are sent."""
    at, digest = str(int(time.time() if now is None else now)), hashlib.sha256(body).hexdigest()
    return f"{SCHEME} {at}.{digest}.{_proof(key, method, host, target, at, digest)}"


class Signed:
    """What a header says that was made by `sign`. Raises ValueError when it is none."""

    def __init__(self, given: str) -> None:
        self._at, self._digest, self._given = given.split(".")
        self._time = int(self._at) if self._at.isascii() and self._at.isdecimal() and len(self._at) < 15 else -1

    def is_good(self, key: bytes, method: str, host: str, target: str, clock: Callable[[], float] = time.time) -> bool:
        """Whether who made it has the key, and it is not too old. The body is still to be looked at."""
        proof = _proof(key, method, host, target, self._at, self._digest)
        return hmac.compare_digest(proof.encode(), self._given.encode()) and abs(clock() - self._time) <= GOOD_FOR

    def is_of(self, body: bytes) -> bool:
        return hmac.compare_digest(hashlib.sha256(body).hexdigest().encode(), self._digest.encode())


def _proof(key: bytes, method: str, host: str, target: str, at: str, digest: str) -> str:
    said = "\n".join((SCHEME, method, host.lower(), target, at, digest))
    return hmac.new(key, said.encode("utf-8", "surrogateescape"), hashlib.sha256).hexdigest()
