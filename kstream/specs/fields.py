"""Fields of declared types, where they are known before there is a value; and lengths of time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from datetime import timedelta
from types import NoneType, UnionType
from typing import Annotated, Any, Final, NewType, Union, get_args, get_origin

from kstream.errors import TopologyError

LONGEST: Final = timedelta(days=3_652_500)
"""10,000 years. A length beyond is `timedelta.max` or some other "for ever": a window, a wait or a history of which
nothing is ever over grows without end."""


def check_field(kind: Any, name: str, what: str) -> None:
    """Raises TopologyError when values of this type have no such field; what is not known is let through.

    Args:
        what: wants the field: "topic 'in': timestamp='at'".
    """
    for cls in _classes(kind):
        if cls in (dict, object, Any, NoneType) or hasattr(cls, name) or hasattr(cls, "__getattr__"):
            continue
        fields = _fields(cls)
        if name not in fields:
            has = f": it has {', '.join(fields)}" if fields else ""
            raise TopologyError(f"{what}, but {cls.__name__} has no field {name!r}{has}")


def _classes(kind: Any) -> Iterator[type]:
    """The classes of the values that a type stands for. Codecs and what is not declared have none that are known."""
    if isinstance(kind, NewType):
        yield from _classes(kind.__supertype__)
    elif get_origin(kind) is Annotated:
        yield from _classes(kind.__origin__)
    elif type(kind).__name__ == "TypeAliasType":
        yield from _classes(kind.__value__)
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _classes(member)
    elif isinstance(cls := get_origin(kind) or kind, type):
        yield cls


def _fields(cls: type) -> list[str]:
    """What is annotated in a class and its bases."""
    bases = reversed(cls.__mro__)
    return list(dict.fromkeys(name for base in bases for name in inspect.get_annotations(base) if name[0] != "_"))


def whole_milliseconds(length: Any, what: str, *, least: int | None = 0) -> int:
    """A timedelta in ms.

    Raises:
        TopologyError: it is none, is less than `least` ms (None: any will do), is longer than `LONGEST`, or has parts
            of a millisecond.
    """
    if not isinstance(length, timedelta):
        raise TopologyError(f"{what}{length!r} is not a timedelta: say it with its unit, as in timedelta(seconds=10)")
    check_end(length, what)
    found, rest = divmod(length, timedelta(milliseconds=1))
    if rest or (least is not None and found < least):
        bound = "" if least is None else f", {least} at least"
        raise TopologyError(f"{what}{length!r}: it is a whole number of milliseconds{bound}")
    return found


def check_end(length: timedelta, what: str) -> None:
    """Raises TopologyError where a length of time, either way, is longer than `LONGEST`."""
    if not -LONGEST <= length <= LONGEST:
        raise TopologyError(
            f"{what}{length!r} is longer than 10,000 years: nothing would ever be over; say how long it is to be"
        )
