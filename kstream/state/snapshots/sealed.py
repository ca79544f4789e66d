"""The form in which a manifest lies, and a savepoint's file: a line with what it is, the version of its form and its
checksum, and JSON behind it. What is damaged, cut off, or of a later version is found before it is read."""

from __future__ import annotations

import re
from hashlib import sha256

from kstream.errors import SnapshotError
from kstream.specs.stored import StoredForm


class Seal:
    """Of files of one kind.

    Args:
        kind: "snapshot" or "savepoint".
        what: what a file that has no such line is said not to be.
        form: its number; later ones cannot be read.
    """

    def __init__(self, kind: str, what: str, form: StoredForm) -> None:
        self._kind, self._what, self._form = kind, what, form
        self._head = re.compile(rb"kstream-%s (\d+) ([0-9a-f]{64})\n" % kind.encode())

    def sealed(self, body: bytes) -> bytes:
        """As it lies in a storage."""
        return f"kstream-{self._kind} {self._form.number} {sha256(body).hexdigest()}\n".encode() + body

    def is_later(self, data: bytes) -> bool:
        """Whether a later version of kstream wrote it."""
        head = self._head.match(data)
        return head is not None and int(head[1]) > self._form.number

    def opened(self, data: bytes, where: str) -> bytes:
        """What was sealed.

        Args:
            where: what the file is called in messages.

        Raises:
            SnapshotError: it is damaged, something else, or of a later version.
        """
        head = self._head.match(data)
        if head is None:
            raise SnapshotError(f"{where} is not {self._what}, or its beginning is damaged")
        if refusal := self._form.refusal(where, int(head[1])):
            raise SnapshotError(refusal)
        body = data[head.end() :]
        if sha256(body).hexdigest().encode() != head[2]:
            raise SnapshotError(f"{where} is damaged or cut off: its checksum does not fit")
        return body
