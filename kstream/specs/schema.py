"""The type of one side (key or value) of a stream, and the codec that carries it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, Optional, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

from kstream.codecs import Codec, is_codec, is_nullable, name_of, resolve
from kstream.errors import TopologyError

T = TypeVar("T")
Kind: TypeAlias = type[T] | Codec[T]
"""What is given for a type: the type, or a codec of its values."""


class _Unknown:
    """The kind of a side whose type nobody declared; it travels as untyped JSON."""

    def __repr__(self) -> str:
        return "an undeclared type"


UNKNOWN: Final = _Unknown()


@dataclass(frozen=True, slots=True, eq=False)
class Schema:
    """A declared type (`kind`) with its codec. One object per kind, so identity says "the same bytes"."""

    kind: Any
    codec: Codec[Any]

    def accepts(self, other: Schema) -> bool:
        """Whether values of `other` may go where this schema is declared. What is not known is let through."""
        if self is other or UNKNOWN in (self.kind, other.kind) or self.kind in (Any, object):
            return True
        mine, theirs = _members(self.kind), _members(other.kind)
        return all(
            any(there == here or _is_subclass(there, here) or here in (Any, object) for here in mine)
            for there in theirs
        )

    def __str__(self) -> str:
        return type_name(self.kind)


def type_name(kind: Any) -> str:
    """What messages call a type."""
    if is_codec(kind):
        return name_of(kind)
    if get_origin(kind) in (Union, UnionType):  # "Optional" and "Union", as typing calls them, say nothing
        named = (one.__name__ if isinstance(one, type) else str(one) for one in get_args(kind))
        return " | ".join("None" if name == "NoneType" else name for name in named)
    return getattr(kind, "__name__", None) or str(kind)


def told_apart(have: Any, want: Any) -> tuple[str, str]:
    """What an error calls two types or codecs that are not the same, also where they have one name."""
    one, other = type_name(have), type_name(want)
    if one != other:
        return one, other
    if not is_codec(have) or not is_codec(want) or type(have) is not type(want):
        return _whole_name(have), _whole_name(want)
    mine, theirs = _attributes(have), _attributes(want)
    unlike = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    why = f", whose {' and '.join(unlike)} differ{'' if unlike[1:] else 's'}" if unlike else ""
    return one, f"another {other}{why}: use one object for both"


def _whole_name(kind: Any) -> str:
    named = type(kind) if is_codec(kind) else kind
    return f"{named.__module__}.{named.__qualname__}" if isinstance(named, type) else str(named)


def _attributes(codec: Any) -> dict[str, Any]:
    """By their names, as `_equal` compares them. Errors have the names only: values may be long, or secrets."""
    state = codec.__getstate__()
    parts = state if isinstance(state, tuple) else (state,)  # with those in slots
    return {name: value for part in parts if isinstance(part, dict) for name, value in part.items()}


def _members(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _is_subclass(there: Any, here: Any) -> bool:
    return isinstance(there, type) and isinstance(here, type) and issubclass(there, here)


_known: dict[tuple[Any, bool], Schema] = {}
_codecs: list[tuple[bool, Schema]] = []  # those of codecs of the user's


def schema(kind: Any, what: str, *, key: bool = False) -> Schema:
    """The schema of a type or a codec object. `what` names the declaration in errors.

    Args:
        key: it is a key's: equal objects have equal bytes.

    Raises:
        TopologyError: no codec can carry this type.
    """
    try:
        known = _known.get((kind, key))
    except TypeError:  # an unhashable kind or codec object
        return Schema(kind, resolve(kind, what=what, key=key))
    if known is None:
        # What nobody declared travels as plain JSON, and by the same codec object: the same bytes serve both.
        codec = schema(Any, what, key=key).codec if kind is UNKNOWN else resolve(kind, what=what, key=key)
        known = _equal(kind, key) if codec is kind else None
        known = _known[kind, key] = known or Schema(kind, codec)
        if codec is kind:
            _codecs.append((key, known))
    return known


def _equal(codec: Any, key: bool) -> Schema | None:
    """The schema of a codec object like this one: of the same class, with equal attributes."""
    for side, known in _codecs:
        if side == key and type(known.kind) is type(codec) and known.kind.__getstate__() == codec.__getstate__():
            return known
    return None


def nullable(of: Schema, what: str) -> Schema:
    """The schema of the same values and None, which travels as null. `what` has it, for the error.

    Raises:
        TopologyError: it is that of a codec of the user's, which does not take None.
    """
    if is_nullable(of.codec):
        return of
    if is_codec(of.kind):
        raise TopologyError(f"{what}: {of} takes no None: give the codec the attribute nullable = True")
    if of.kind is not UNKNOWN:
        return schema(Optional[of.kind], what)  # noqa: UP045  # whatever the kind is
    found = _known.get((_NULLABLE, False))
    if found is None:
        found = _known[_NULLABLE, False] = Schema(UNKNOWN, schema(Optional[Any], what).codec)  # noqa: UP045
    return found


_NULLABLE: Final = object()


def with_none(of: Schema) -> Schema:
    """Where nobody declared the type of what a function returns, it may be None: a record without a value."""
    return nullable(of, "") if of.kind is UNKNOWN else of


def without_none(kind: Any) -> Any:
    """Of `T | None` T; any other type as it is."""
    members = [one for one in get_args(kind) if one is not NoneType] if get_origin(kind) in (Union, UnionType) else ()
    return members[0] if len(members) == 1 else kind


def returned_by(function: Callable[..., Any]) -> Any:
    """The annotated return type of a function, UNKNOWN when there is none (lambdas) or it cannot be resolved."""
    if not inspect.isfunction(function) and not inspect.ismethod(function):
        return function if inspect.isclass(function) else UNKNOWN
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # names that exist only under TYPE_CHECKING: as good as no annotation
        return UNKNOWN
    kind = hints.get("return", UNKNOWN)
    return UNKNOWN if kind is Any else kind


def element_of(kind: Any) -> Any:
    """The element type of an annotated iterable; UNKNOWN where the annotation does not say."""
    arguments = get_args(kind)
    return arguments[0] if arguments else UNKNOWN
