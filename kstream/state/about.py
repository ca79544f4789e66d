"""What is said about a store where its mark is: which changelog its entries are of. Local state that does not fit what
the store is now is rebuilt from the changelog, never opened silently."""

from __future__ import annotations

from typing import Final

import msgspec

from kstream.errors import SnapshotError
from kstream.specs.stored import LOCAL_STATE
from kstream.state.forms import EVENT, EVENT_ENTRIES, PLAIN, WALL, WALL_ENTRIES

VERSION: Final = LOCAL_STATE.number
"""Of the form of this, and of what a reader has to know to read the entries. Version 1 knows plain entries only, and is
still written for these."""

_TIMES: Final = {
    PLAIN: "no times",
    WALL: "times of the clock",
    EVENT: "times of events",
    WALL_ENTRIES: "times of the clock for what is in them",
    EVENT_ENTRIES: "times of events for what is in them",
}


class About(msgspec.Struct, frozen=True, omit_defaults=True, rename={"version": "v"}):
    """What the entries of a store are.

    Attributes:
        version: of what wrote them.
        form: of its entries (state/forms.py).
        existing: what became of entries from before it had a TTL (specs/ttl.py); empty where it has none.
        changelog: the id of the changelog topic (KIP-516): one that is deleted and made again has another. None where
            it is not known: of state written before this was kept, and with brokers before 2.8.
    """

    version: int = 1
    changelog: str | None = None
    form: str = PLAIN
    existing: str = ""

    def packed(self) -> bytes:
        """As it lies in a mark."""
        return msgspec.json.encode(self if self.form == PLAIN else msgspec.structs.replace(self, version=VERSION))

    def misfit(self, packed: bytes) -> str | None:
        """Why entries of which this was said cannot be used as these; None where they can."""
        try:
            then = msgspec.json.decode(packed, type=About) if packed else About()
        except msgspec.MsgspecError as error:
            return f"what is said about it cannot be read: {error}"
        if then.version > VERSION:
            return LOCAL_STATE.refusal("its mark", then.version)
        if then.changelog is not None and self.changelog is not None and then.changelog != self.changelog:
            return (
                f"its changelog was deleted and created again (its id was {then.changelog}, now it is {self.changelog})"
            )
        if then.form != self.form:
            was, now = (_TIMES.get(form, f"the form {form!r}") for form in (then.form, self.form))
            return f"its entries were kept with {was}, and are with {now} from now on (ttl=)"
        if then.existing != self.existing:
            return f"entries from before its TTL were kept {then.existing!r}, and are {self.existing!r} from now on"
        return None


def changelog_in(packed: bytes) -> str | None:
    """The id of the changelog that entries are of, of which this was said; None where that is not known."""
    try:
        return msgspec.json.decode(packed, type=About).changelog
    except msgspec.MsgspecError:
        return None


def form_in(packed: bytes) -> str:
    """The form of entries of which this was said; plain, where it cannot be read.

    Raises:
        SnapshotError: a later version wrote them.
    """
    try:
        about = msgspec.json.decode(packed, type=About)
    except msgspec.MsgspecError:
        return PLAIN
    if about.version > VERSION:
        raise SnapshotError(
            f"a later version of kstream wrote these entries (form {about.version}, this one reads up to {VERSION}): "
            "read them with the later version"
        )
    return about.form
