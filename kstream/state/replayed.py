"""What records of a changelog become in a backend: each says its form, and the store has one of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kstream.specs.store import StoreSpec
from kstream.specs.ttl import TTL
from kstream.state.backend import Backend, Changes, Mark
from kstream.state.expiry import ExpiryIndex, ends_of, families_of
from kstream.state.forms import NEVER, clock_of, form_of, newest_in, plain_in, plain_values, stamp_of, timed_in
from kstream.state.sessions import places_of
from kstream.state.sliding import places_of_records
from kstream.state.timers import replayed_timers
from kstream.types import Fetch


def replayed(spec: StoreSpec, keys: Sequence[bytes], fetch: Fetch, now: int) -> Mapping[str, Changes]:
    """The changes, by family.

    Args:
        keys: of the records.
        now: what has expired by then is dropped, where the store says so; ms since the epoch, by the time of its TTL.

    Raises:
        KStreamError: a later version wrote a record.
    """
    if spec.holds == "timers":
        return replayed_timers(spec, zip(keys, fetch.values(), strict=True))
    if spec.holds in ("sessions", "recent"):
        entries = dict(zip(keys, plain_values(fetch.values(), fetch.headers()), strict=True))
        places = places_of(spec, entries) if spec.holds == "sessions" else places_of_records(spec, entries)
        return {spec.name: entries.items(), ends_of(spec.name): places.items()}
    if spec.ttl is None:
        return {spec.name: zip(keys, plain_values(fetch.values(), fetch.headers()), strict=True)}
    return _timed(spec, spec.ttl, keys, fetch, now)


def _timed(spec: StoreSpec, ttl: TTL, keys: Sequence[bytes], fetch: Fetch, now: int) -> Mapping[str, Changes]:
    values, headers, timestamps = fetch.values(), fetch.headers(), fetch.timestamps()
    index = ExpiryIndex(spec.name, ttl.milliseconds) if ttl.sweep else None
    drops, own, retroactive = ttl.full_snapshot, spec.form, ttl.existing == "retroactive"
    entries: dict[bytes, bytes | None] = {}
    places: dict[bytes, bytes | None] = {}
    for key, row in dict(zip(keys, range(len(keys)), strict=True)).items():
        value = values[row]
        if value is None:
            entries[key] = None
            continue
        form = form_of(headers[row])
        if form != own:
            if clock_of(form) == clock_of(own):
                stamp = newest_in(form, value)
            else:
                stamp = max(0, timestamps[row]) if retroactive else NEVER
            value = timed_in(own, stamp, plain_in(form, value))
        stamp = stamp_of(value)
        entries[key] = None if drops and ttl.expired(newest_in(own, value), now) else value
        if index is not None and stamp != NEVER:
            places[index.entry(stamp, key)] = b""
    changes: dict[str, Changes] = {spec.name: entries.items()}
    if index is not None and places:
        changes[index.name] = places.items()
    return changes


def reset(backend: Backend, spec: StoreSpec) -> None:
    """Empties a store."""
    for family in families_of(spec):
        backend.reset(family)


def marked(spec: StoreSpec, mark: Mark) -> dict[str, Mark]:
    """The same mark for each family."""
    return dict.fromkeys(families_of(spec), mark)
