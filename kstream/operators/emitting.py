"""What user code emits through a context, until it goes on as a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kstream.codecs import SAMPLE, BuiltIn, Codec, ColumnError, check_column, encode_value
from kstream.errors import CodecError
from kstream.operators.base import Operator
from kstream.operators.batch import Batch
from kstream.state.containers import plain_of


class Output(Operator):
    """One way out of a processor. A value is encoded when it is emitted, for it may be a live state object.

    The first value of each class is compared, to the last type inside, with what a reader gets; whether it can be read
    is tried of one of `check_every`. With 1, and of untyped JSON, each is compared.
    """

    def __init__(self, codec: Codec[Any], name: str, check_every: int = SAMPLE) -> None:
        super().__init__()
        self.codec, self._name, self._encode, self._check_every = codec, name, codec.encode, check_every
        self._each = check_every == 1 or (isinstance(codec, BuiltIn) and codec.loose)
        self._class: type | None = None  # of the one before: the same class needs no second look
        self.values: list[bytes | None] = []
        self.places: list[int] = []

    def take(self, place: int, value: Any) -> None:
        """A value, of the record or timer at this place.

        Raises:
            CodecError: it would not come back as it is.
        """
        self.values.append(self._encode(value) if value.__class__ is self._class else self._looked_at(value))
        self.places.append(place)

    def _looked_at(self, value: Any) -> bytes | None:
        plain = plain_of(value)
        try:
            raw = encode_value(self.codec, plain)
        except Exception as error:
            raise CodecError(f"ctx.emit of {self._name}: {error}") from error
        if plain is value and value is not None and not self._each:
            self._class = value.__class__
        return raw

    def taken(self) -> tuple[list[bytes | None], list[int]]:
        """What was emitted since it was asked last, and where."""
        values, places = self.values, self.places
        self.forget()
        return values, places

    def check(self, batch: Batch) -> None:
        """Whether what was emitted can be read back.

        Raises:
            CodecError: one of it cannot (seen of a sample).
        """
        if self._each:
            return
        try:
            check_column(self.codec, batch.encoded_values(self.codec), self._check_every)
        except ColumnError as error:
            batch.blame(error.index)
            raise CodecError(f"ctx.emit of {self._name}: {error}") from error

    def forget(self) -> None:
        self.values, self.places = [], []


def check_results(name: str, codec: Codec[Any], results: Sequence[bytes | None], every: int) -> None:
    """Whether results of an aggregation that are told can be read back: one of `every` is tried.

    Args:
        name: of its table.

    Raises:
        ColumnError: with the index of the first that cannot.
    """
    try:
        check_column(codec, results, every)
    except ColumnError as error:
        raise ColumnError(f"the results of {name!r}: {error}", error.index) from error.__cause__ or error
