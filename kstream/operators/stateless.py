"""map, filter, flat_map, peek, rekey: one loop over a column each.

A function that takes a context as its second parameter gets the task's, moved to the record before each call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, cast

from kstream.codecs import Codec
from kstream.errors import KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch


def apply(
    function: Callable[..., Any],
    cursor: Cursor | None,
    batch: Batch,
    *,
    leaving_out: bool = False,
    of: Callable[..., Any] | None = None,
) -> tuple[Batch, list[Any]]:
    """The function over the values of a batch, with the context where it is wanted. Returns the batch, without records
    that failed and are left out (where `leaving_out`), and what it gave. Errors name it, or the user's function `of`
    which it calls.

    Raises:
        KStreamError: it gives coroutines. Async functions are refused when they are declared; a decorator can hide one.
            Or it raised StopIteration, which would end the loop as if there were no more records.
    """
    if leaving_out:
        batch = batch.readable()
    values, left_out = iter(batch.values), cast("list[int]", [])
    out: list[Any] = []
    while True:
        try:
            if cursor is None:
                out.extend(map(function, values))
                if len(out) + len(left_out) != batch.size:
                    advice = "give next() a default, as in next(found, None)"
                    raise KStreamError(f"{_name(of or function)}() raised StopIteration: {advice}") from StopIteration()
            else:
                cursor.batch = batch
                for cursor.index, value in enumerate(values):
                    out.append(function(value, cursor))
                cursor.batch = None
            break
        except BaseException as error:
            index = batch.blame_last(values)
            if not leaving_out or len(out) + len(left_out) != index or not batch.leaves_out(index, error):
                raise
            left_out.append(index)
    if out and out[0].__class__ is CoroutineType:
        for one in out:
            one.close()  # or Python warns that nobody awaited it
        raise KStreamError(f"{_name(of or function)}() returns a coroutine, which nothing awaits: await in an agent")
    return batch.without(left_out) if left_out else batch, out


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))


class Stateless(Operator):
    """Common form: `function`, and the cursor when it wants a context."""

    traceless = True

    def __init__(
        self, function: Callable[..., Any], cursor: Cursor | None, key_codec: Codec[Any], value_codec: Codec[Any]
    ) -> None:
        super().__init__()
        self.function, self.cursor = function, cursor
        self.key_codec, self.value_codec = key_codec, value_codec

    def _apply(self, batch: Batch) -> tuple[Batch, list[Any]]:
        return apply(self.function, self.cursor, batch, leaving_out=self.leaves_out)


class Map(Stateless):
    def push(self, batch: Batch) -> None:
        batch, values = self._apply(batch)
        self.emit(batch.with_values(values, self.value_codec))


class Filter(Stateless):
    def push(self, batch: Batch) -> None:
        batch, mask = self._apply(batch)
        self.emit(batch.where(mask))


class FlatMap(Stateless):
    def push(self, batch: Batch) -> None:
        function, cursor = self.function, self.cursor
        if cursor is None:
            batch, made = self._apply(batch)
            batch, groups = apply(list, None, batch.with_values(made, self.value_codec), leaving_out=self.leaves_out)
        else:  # gone through at once: a generator asks the context while it runs

            def listed(value: Any, context: Any) -> list[Any]:
                return list(function(value, context))

            batch, groups = apply(listed, cursor, batch)
        values = [value for group in groups for value in group]
        self.emit(batch.repeat(list(map(len, groups)), values, self.value_codec))


class Peek(Stateless):
    def push(self, batch: Batch) -> None:
        batch, _ = self._apply(batch)
        self.emit(batch)


class Rekey(Stateless):
    def push(self, batch: Batch) -> None:
        batch, keys = self._apply(batch)
        self.emit(batch.with_keys(keys, self.key_codec))
