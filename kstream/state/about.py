"""What is said about a store where its mark is: which changelog its entries are of. Local state that does not fit what
the store is now is rebuilt from the changelog, never opened silently."""

from __future__ import annotations

from typing import Final

import msgspec

VERSION: Final = 1
"""Of the form of this, and of what a reader has to know to read the entries."""


class About(msgspec.Struct, frozen=True, omit_defaults=True, rename={"version": "v"}):
    """What the entries of a store are.

    Attributes:
        version: of what wrote them.
        changelog: the id of the changelog topic (KIP-516): one that is deleted and made again has another. None where
            it is not known: of state written before this was kept, and with brokers before 2.8.
    """

    version: int = VERSION
    changelog: str | None = None

    def packed(self) -> bytes:
        """As it lies in a mark."""
        return msgspec.json.encode(self)

    def misfit(self, packed: bytes) -> str | None:
        """Why entries of which this was said cannot be used as these; None where they can."""
        if not packed:
            return None
        try:
            then = msgspec.json.decode(packed, type=About)
        except msgspec.MsgspecError as error:
            return f"what is said about it cannot be read: {error}"
        if then.version > VERSION:
            return f"a later version of kstream wrote it (form {then.version}, this version reads up to {VERSION})"
        if then.changelog is not None and self.changelog is not None and then.changelog != self.changelog:
            return (
                f"its changelog was deleted and created again (its id was {then.changelog}, now it is {self.changelog})"
            )
        return None
