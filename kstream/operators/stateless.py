"""map, filter, flat_map, peek, rekey: one loop over a column each.

A function that takes a context as its second parameter gets the task's, moved to the record before each call.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any

from kstream.codecs import Codec
from kstream.errors import KStreamError
from kstream.operators.base import Cursor, Operator
from kstream.operators.batch import Batch


def apply(function: Callable[..., Any], cursor: Cursor | None, batch: Batch) -> list[Any]:
    """The function over the values of a batch, with the context where it is wanted.

    Raises:
        KStreamError: it gives coroutines. Async functions are refused when they are declared; a decorator can hide one.
            Or it raised StopIteration, which would end the loop as if there were no more records.
    """
    values = iter(batch.values)
    try:
        if cursor is None:
            out = list(map(function, values))
            if len(out) != batch.size:
                name = getattr(function, "__qualname__", repr(function))
                advice = "give next() a default, as in next(found, None)"
                raise KStreamError(f"{name}() raised StopIteration: {advice}") from StopIteration()
        else:
            cursor.batch = batch
            out = []
            for cursor.index, value in enumerate(values):
                out.append(function(value, cursor))
            cursor.batch = None
    except BaseException:
        batch.blame_last(values)
        raise
    if out and out[0].__class__ is CoroutineType:
        for one in out:
            one.close()  # or Python warns that nobody awaited it
        name = getattr(function, "__qualname__", repr(function))
        raise KStreamError(f"{name}() returns a coroutine, which nothing awaits: await in an agent")
    return out


class Stateless(Operator):
    """Common form: `function`, and the cursor when it wants a context."""

    def __init__(
        self, function: Callable[..., Any], cursor: Cursor | None, key_codec: Codec[Any], value_codec: Codec[Any]
    ) -> None:
        super().__init__()
        self.function, self.cursor = function, cursor
        self.key_codec, self.value_codec = key_codec, value_codec


class Map(Stateless):
    def push(self, batch: Batch) -> None:
        self.emit(batch.with_values(apply(self.function, self.cursor, batch), self.value_codec))


class Filter(Stateless):
    def push(self, batch: Batch) -> None:
        self.emit(batch.where(apply(self.function, self.cursor, batch)))


class FlatMap(Stateless):
    def push(self, batch: Batch) -> None:
        function, cursor = self.function, self.cursor
        if cursor is None:
            made = iter(apply(function, None, batch))
            try:
                groups = list(map(list, made))
            except BaseException:
                batch.blame_last(made)
                raise
        else:  # gone through at once: a generator asks the context while it runs

            def listed(value: Any, context: Any) -> list[Any]:
                return list(function(value, context))

            groups = apply(listed, cursor, batch)
        values = [value for group in groups for value in group]
        self.emit(batch.repeat(list(map(len, groups)), values, self.value_codec))


class Peek(Stateless):
    def push(self, batch: Batch) -> None:
        apply(self.function, self.cursor, batch)
        self.emit(batch)


class Rekey(Stateless):
    def push(self, batch: Batch) -> None:
        self.emit(batch.with_keys(apply(self.function, self.cursor, batch), self.key_codec))
