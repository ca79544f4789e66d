"""Stores in one file: what the memory backend's checkpoints are."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from kstream.errors import StateDirectoryError, StateError
from kstream.specs.stored import MEMORY
from kstream.state.backend import Mark

NAME: Final = "stores"
_HEAD: Final = b"kstream-stores %d\n" % MEMORY.number
_HEADS: Final = re.compile(rb"kstream-stores (\d{1,9})\n")
_LENGTH: Final = struct.Struct(">I")
_AT_ONCE: Final = 10_000
"""Entries of a frame."""

Stores = Mapping[str, tuple[Mark | None, Mapping[bytes, bytes]]]


class _Frame(msgspec.Struct, array_like=True):
    """Some entries of a store. Its first frame has its mark; the last frame of a file has no store."""

    store: str | None
    mark: tuple[int, float, bytes] | None = None
    entries: list[tuple[bytes, bytes]] = []


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Frame).decode


def dump(directory: Path, stores: Stores) -> None:
    """Writes stores into a directory, which is made. Raises StateDirectoryError: it cannot be written."""
    try:
        directory.mkdir(parents=True)
        with (directory / NAME).open("xb") as file:
            file.write(_HEAD)
            for frame in _frames(stores):
                data = _encode(frame)
                file.write(_LENGTH.pack(len(data)) + data)
    except OSError as error:
        raise StateDirectoryError(f"{directory} cannot be written: {error.strerror or error}") from error


def _frames(stores: Stores) -> Iterator[_Frame]:
    for store, (mark, entries) in stores.items():
        yield _Frame(store, None if mark is None else (mark.offset, mark.wall_time, mark.about))
        left = iter(entries.items())
        while some := list(islice(left, _AT_ONCE)):
            yield _Frame(store, None, some)
    yield _Frame(None)


def load(directory: Path) -> dict[str, tuple[Mark | None, dict[bytes, bytes]]]:
    """The stores that were written into a directory. Raises StateError: they are damaged, or not there."""
    found: dict[str, tuple[Mark | None, dict[bytes, bytes]]] = {}
    path = directory / NAME
    try:
        with path.open("rb") as file:
            head = _HEADS.fullmatch(file.readline(100))
            if head is None:
                raise StateError(f"{path} holds no stores")
            if refusal := MEMORY.refusal(str(path), int(head[1])):
                raise StateError(refusal)
            while (frame := _read(file, path)).store is not None:
                if frame.store not in found:
                    found[frame.store] = None if frame.mark is None else Mark(*frame.mark), {}
                found[frame.store][1].update(frame.entries)
    except (OSError, msgspec.MsgspecError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
    return found


def _read(file: BinaryIO, path: Path) -> _Frame:
    length = file.read(_LENGTH.size)
    data = file.read(_LENGTH.unpack(length)[0]) if len(length) == _LENGTH.size else b""
    if not data:
        raise StateError(f"{path} is cut off")
    return _decode(data)
