"""What an instance says of itself, as it is written to the topic of announcements, and as others read it: whoever may
write there writes what he likes, and a later version something else."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.directory import USUAL_INTERVAL, Announcement, Heard
from kstream.specs.stored import ANNOUNCEMENTS, number_in

log = logging.getLogger(__name__)

MAX_BYTES: Final = 500_000
"""An announcement beyond this is sent without its inputs, then without its tasks: brokers take 1 MB by default."""
LONGEST_INTERVAL: Final = 3600.0
"""Seconds: the topic forgets what is older."""


class _Said(InstanceStatus):
    """An announcement as anybody may write it: a bad interval does not take the rest along."""

    interval: msgspec.Raw = msgspec.Raw()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Said).decode
_decode_interval = msgspec.json.Decoder(float).decode
_STATUS: Final = InstanceStatus.__struct_fields__


def encode(status: InstanceStatus, interval: float) -> bytes:
    """The announcement: the status without what only its own page shows."""
    said = Announcement(**msgspec.structs.asdict(status), interval=interval)
    said.checkpoints, said.snapshots, said.stores, said.errors, said.edges = [], [], [], [], {}
    data = _encode(said)
    if len(data) > MAX_BYTES:
        said.tasks = [msgspec.structs.replace(task, inputs=[]) for task in said.tasks]
        data = _encode(said)
    if len(data) > MAX_BYTES:
        said.tasks = []
        data = _encode(said)
    return data


def heard(app: str, name: str, value: bytes | None, at: float, taken: float) -> Heard | None:
    """The word of the instance `name`. None for a goodbye, and for what cannot be read: as if it had not been heard of.
    One of a later form is shown as an instance that is silent, and why.

    Args:
        at: when it came, by the monotonic clock.
        taken: when the broker took it, in seconds since the epoch.
    """
    if value is None:
        return None
    if len(value) > 2 * MAX_BYTES:
        log.debug("an announcement of %d bytes is skipped", len(value))
        return None
    try:
        number = number_in(value)
        if refusal := ANNOUNCEMENTS.refusal(f"instance {name}", number):
            shown = Announcement(app, name, "silent", taken, taken, reasons=[refusal], v=number)
            return Heard(shown, at, 0.0, len(value))
        raw = _decode(value)
        said = Announcement(**{name: getattr(raw, name) for name in _STATUS}, interval=_interval(raw.interval))
        return Heard(said, at, taken - said.at, len(value))
    except Exception as error:  # whoever may write to the topic writes what he likes; the next record may be good
        log.debug("an announcement of another instance cannot be decoded: %s", error)
        return None


def _interval(said: msgspec.Raw) -> float:
    """A number of seconds; the usual one where it is none, not more than nothing, or infinite."""
    try:
        interval = _decode_interval(said)
    except msgspec.MsgspecError:
        return USUAL_INTERVAL
    return min(interval, LONGEST_INTERVAL) if interval > 0 else USUAL_INTERVAL
