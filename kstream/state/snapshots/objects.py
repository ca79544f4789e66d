"""Snapshots in a bucket: S3 and what speaks its protocol, Google Cloud Storage, Azure. The only importer of obstore.

Credentials, region and endpoint come from the environment, by the names that each cloud's own tools know (those of AWS,
for one, begin with AWS_), or from the machine's role.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

from kstream.errors import ConfigError, FileMissing, StorageError
from kstream.state.snapshots.storage import CHUNK, Entry

T = TypeVar("T")

PART: Final = 8 << 20
"""Bytes of a part of an upload: S3 takes 10,000 parts of a file."""
AT_ONCE: Final = 4
"""Parts of one file that are sent at the same time."""
DELETED_AT_ONCE: Final = 500
ATTEMPTS: Final = 4
"""At a request for deletions."""

METADATA: Final = "169.254.169.254"
"""Where the machines of clouds are told their roles."""

_ANSWER: Final = re.compile(r"<Code>([^<]+)</Code>.*?<Message>([^<]+)</Message>")

CLIENT: Final[dict[str, Any]] = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
RETRY: Final[dict[str, Any]] = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=30),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}


class ObjectStorage:
    """A bucket, or a folder in one. Implements `kstream.state.snapshots.storage.Storage`.

    Args:
        scheme: "s3", "gs" or "az".
        rest: bucket/prefix.

    Raises:
        ConfigError: obstore is not installed, or what it is told makes no sense.
    """

    def __init__(self, scheme: str, rest: str) -> None:
        try:
            import obstore
            from obstore.exceptions import BaseError
            from obstore.store import AzureStore, GCSStore, S3Store
        except ImportError as error:
            raise ConfigError(f"snapshots: {scheme}://... needs obstore: pip install 'kstream[objects]'") from error
        self._obstore: Any = obstore
        self._errors = (BaseError, OSError)
        self.url = f"{scheme}://{rest}"
        bucket, _, prefix = rest.partition("/")
        kind: Any = {"s3": S3Store, "gs": GCSStore, "az": AzureStore}[scheme]
        try:
            options = {**CLIENT, "allow_http": _plain_http(scheme)}
            self._store = kind(bucket, prefix=prefix or None, client_options=options, retry_config=RETRY)
        except self._errors as error:
            raise ConfigError(f"snapshots: {self.url}: {_short(error)}") from error

    def put(self, name: str, chunks: Iterable[bytes]) -> None:
        chunks = iter(chunks)
        first = _up_to(chunks, PART)
        if len(first) < PART:  # it is all there is: one request
            self._call("written", name, lambda: self._obstore.put(self._store, name, first, use_multipart=False))
            return
        raised: list[BaseException] = []
        whole = _with_first(first, chunks, raised)
        try:
            self._obstore.put(self._store, name, whole, chunk_size=PART, max_concurrency=AT_ONCE)
        except BaseException as error:
            if raised:  # what the caller's chunks raised, and not what became of it on its way through
                raise raised[0] from None
            if isinstance(error, self._errors):
                raise self._failed("written", name, error) from error
            raise

    def create(self, name: str, data: bytes) -> bool:
        from obstore.exceptions import AlreadyExistsError

        try:
            self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            # an attempt whose answer was lost is repeated, and finds what it has stored
            return b"".join(self.get(name)) == data
        except self._errors as error:
            raise self._failed("written", name, error) from error
        return True

    def get(self, name: str) -> Iterator[bytes]:
        pieces = self._call("read", name, lambda: iter(self._obstore.get(self._store, name).stream(CHUNK)))
        while (piece := self._call("read", name, lambda: next(pieces, None))) is not None:
            yield bytes(piece)

    def link(self, name: str, path: Path) -> bool:
        return False

    def list(self, prefix: str) -> Iterator[Entry]:
        pages = self._call("listed", prefix, lambda: iter(self._obstore.list(self._store, prefix or None)))
        while (page := self._call("listed", prefix, lambda: next(pages, None))) is not None:
            for one in page:
                yield Entry(one["path"], one["size"], one["last_modified"].timestamp())

    def exists(self, name: str) -> bool:
        try:
            self._call("looked for", name, lambda: self._obstore.head(self._store, name))
        except FileMissing:
            return False
        return True

    def delete(self, names: Iterable[str]) -> None:
        listed = [*names]
        for first in range(0, len(listed), DELETED_AT_ONCE):
            some = listed[first : first + DELETED_AT_ONCE]
            try:
                self._delete(some)
            except FileMissing:  # of several one was missing: not every store says which
                for name in some:
                    with suppress(FileMissing):
                        self._delete([name])

    def _delete(self, names: Sequence[str]) -> None:
        """Tried again here: obstore does not know that several deletions in one request may be repeated."""
        for attempt in range(ATTEMPTS):
            try:
                self._call("deleted", names[0], lambda: self._obstore.delete(self._store, names))
                return
            except FileMissing:
                raise
            except StorageError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)

    def unfinished(self, prefix: str) -> Iterator[Entry]:
        return iter(())

    def _call(self, done: str, name: str, call: Callable[[], T]) -> T:
        try:
            return call()
        except self._errors as error:
            raise self._failed(done, name, error) from error

    def _failed(self, done: str, name: str, error: BaseException) -> StorageError:
        if isinstance(error, FileNotFoundError) and done != "written" and "NoSuchBucket" not in str(error):
            return FileMissing(f"{self.url}: there is no file {name}")
        return StorageError(f"{self.url}: {name} cannot be {done}: {_short(error)}")


def _plain_http(scheme: str) -> bool:
    """Whether requests may go without TLS: the environment says so, as for a server of one's own."""
    variable = {"s3": "AWS_ALLOW_HTTP", "gs": "GOOGLE_ALLOW_HTTP", "az": "AZURE_ALLOW_HTTP"}[scheme]
    return os.environ.get(variable, "").lower() in ("true", "1", "yes", "on")


def _up_to(chunks: Iterator[bytes], size: int) -> bytes:
    """The first bytes, `size` of them or a few more, or all there are."""
    found, length = [], 0
    for chunk in chunks:
        found.append(chunk)
        length += len(chunk)
        if length >= size:
            break
    return b"".join(found)


def _with_first(first: bytes, others: Iterator[bytes], raised: list[BaseException]) -> Iterator[bytes]:
    try:
        yield first
        yield from others
    except GeneratorExit:
        raise
    except BaseException as error:
        raised.append(error)
        raise


def _short(error: BaseException, longest: int = 300) -> str:
    """What obstore says, which may be pages with the server's answer in them, as one line."""
    text = " ".join(str(error).partition("Debug source:")[0].split())
    said = _ANSWER.search(text)
    if said is not None:  # what the server says itself, such as "NoSuchBucket: The specified bucket does not exist"
        text = f"{said[1]}: {said[2]}"
    text = text if len(text) <= longest else f"{text[:longest]} ..."
    if METADATA in text:
        text += "; there are no credentials in the environment (AWS_..., GOOGLE_..., AZURE_...), so it asked for the "
        text += "machine's role"
    return text
