"""`kstream state get`: entries of a store, by key or in a range."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from urllib.parse import quote, urlencode

import msgspec
from rich.text import Text

from kstream.cli import human
from kstream.cli.data.reading import find, stores_of
from kstream.cli.operate import Subject
from kstream.cli.page import ask
from kstream.cli.state.listing import directory_of
from kstream.cli.state.stopped import stopped
from kstream.codecs.keys import after_prefix, binary, check_ordered
from kstream.codecs.text import decoded, from_text
from kstream.errors import UsageError
from kstream.observe.queried import StateEntries, StateEntry, StateOverview, StatePage
from kstream.specs.store import StoreSpec


class Entry(msgspec.Struct, omit_defaults=True):
    """An entry as --json writes it. `undecodable` is as in `kstream tail`."""

    key: object
    value: object
    partition: int
    undecodable: dict[str, str] = {}


Found = Iterator[tuple[bytes, bytes, int]]
"""Key, value, partition."""


def get(
    on: Subject,
    store: str,
    key: str | None,
    wanted: Mapping[str, str],
    limit: int,
    url: str | None,
    token: str | None,
    state_dir: str | None,
    *,
    as_json: bool,
) -> int:
    """The command. Returns 1 when there is nothing of the kind.

    Raises:
        UsageError: there is no such store, the key is not of its type, the instance cannot be asked, or the directory
            cannot be read.
    """
    assert on.app is not None
    if key is not None and wanted:
        raise UsageError(f"one key ({key!r}), or --{next(iter(wanted))}: not both")
    spec: StoreSpec = find("store", store, stores_of(on.app.topology()), on.app.name)
    encoded = {name: from_text(spec.key.codec, text, f"--{name}") or b"" for name, text in wanted.items()}
    if encoded:
        check_ordered(spec.key.codec, f"store {store}")
    only = None if key is None else from_text(spec.key.codec, key, "the key") or b""
    if url is not None:
        rows = list(islice(_of_instance(on, url, token, spec, only, encoded, limit), limit))
    else:
        rows = list(islice(_on_disk(on, spec, only, encoded, state_dir), limit))
    shown = [(decoded(spec.key.codec, k, key=True), decoded(spec.value.codec, v), p) for k, v, p in rows]
    if as_json:
        for of_key, of_value, partition in shown:
            wrong = {"key": of_key.error, "value": of_value.error}
            errors = {side: error for side, error in wrong.items() if error is not None}
            human.write_json(Entry(of_key.plain, of_value.plain, partition, errors), indented=False)
    elif key is not None:
        for _, of_value, _ in shown:
            human.console().print(Text(of_value.text), soft_wrap=True)
    else:
        table = human.table("KEY", "VALUE", ">PARTITION")
        for of_key, of_value, partition in shown:
            table.add_row(Text(of_key.text), Text(of_value.text), str(partition))
        human.console().print(table)
    if not rows:
        human.complain(f"store {store} has {'no key ' + key if key is not None else 'nothing of the kind'} there")
    return 0 if rows else 1


def _on_disk(
    on: Subject, spec: StoreSpec, only: bytes | None, given: Mapping[str, bytes], state_dir: str | None
) -> Found:
    assert on.app is not None
    start, stop = _bounds(given)
    otherwise = "ask it, with --url URL (and state_queries=true)"
    with stopped(directory_of(on, state_dir), on.app.name, otherwise) as found:
        for local in found.parts_of(spec.name):
            if only is not None:
                (value,) = local.reader.multi_get(spec.name, [only])
                if value is not None:
                    yield only, value, local.partition
                continue
            for key, value in local.reader.scan(spec.name, start):
                if stop is not None and key >= stop:
                    break
                yield key, value, local.partition


def _bounds(given: Mapping[str, bytes]) -> tuple[bytes, bytes | None]:
    start, stop = given.get("from", b""), given.get("to")
    if "prefix" in given:
        behind = after_prefix(given["prefix"])
        start = max(start, given["prefix"])
        stop = behind if stop is None else stop if behind is None else min(stop, behind)
    return start, stop


def _of_instance(
    on: Subject,
    url: str,
    token: str | None,
    spec: StoreSpec,
    only: bytes | None,
    given: Mapping[str, bytes],
    limit: int,
) -> Found:
    """Page by page, in raw form: any key may be asked for, and any value comes as it lies there."""
    token, ca = token or on.settings.web_token, on.settings.web_tls_ca
    path = f"/state/{quote(spec.name, safe='')}"
    if only is not None:
        for part in _parts(url, spec, token, ca):
            answer = ask(url, f"{path}?form=raw{part}", token, StateEntries, ca=ca, body={"keys": [_text(only)]})
            for one in answer.entries:
                if one.too_large is not None:
                    raise UsageError(_too_large(one, "stop the instance and look at its state directory"))
                yield _binary(one.key), _binary(one.value), one.partition
            for lost in answer.unavailable:
                raise UsageError(lost.why)
        return
    asked = {"form": "raw", **{name: _text(key) for name, key in given.items()}}
    while True:
        page = ask(url, f"{path}?{urlencode({**asked, 'limit': str(min(limit, 500))})}", token, StatePage, ca=ca)
        for one in page.entries:
            if one.too_large is None:
                yield _binary(one.key), _binary(one.value), one.partition
            else:
                shown = decoded(spec.key.codec, _binary(one.key), key=True).text
                human.complain(f"{shown}: {_too_large(one, 'it is left out')}")
        if page.cursor is None:
            return
        asked["cursor"] = page.cursor


def _parts(url: str, spec: StoreSpec, token: str | None, ca: str | None) -> list[str]:
    """What is added to the question for a key, for each time it is asked: one of scope "partition" may be in all."""
    if spec.scope != "partition":
        return [""]
    stores = ask(url, "/state", token, StateOverview, ca=ca).stores
    return [f"&partition={number}" for one in stores if one.name == spec.name for number in range(one.partitions)]


def _too_large(entry: StateEntry, what: str) -> str:
    return f"the value has {entry.too_large:,} bytes, more than a running instance answers: {what}"


def _text(data: bytes) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _binary(text: str) -> bytes:
    return binary(text, "base64url", "an entry")
