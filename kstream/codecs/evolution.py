"""Whether a type reads what another one wrote (schema evolution, as Flink has it for the serialisers of its state).

`misread` says why not. Where it says nothing, each value that the old type wrote is one of the new type's. It never
promises what it is not sure of; a class that refuses values in code of its own (`__post_init__`) is not seen through.

Keys are compared by their bytes: a type of keys that reads the old ones must also write the same bytes for them
(`exact`), or they would not be found again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from kstream.codecs.shapes import OWN, Choice, Either, Entries, Field, Items, Limits, Node, Record, Ref, Scalar, Shape

_AS_TEXT: Final = frozenset({"bytes", "datetime", "date", "time", "timedelta", "uuid", "decimal"})
"""What JSON has as a string."""

_WIDER: Final = {"float": {"int"}, "decimal": {"int", "float"}, "str": _AS_TEXT}
"""What else a reader takes."""

_LOWER: Final = ("gt", "ge", "min_length")
_UPPER: Final = ("lt", "le", "max_length")


def misread(new: Shape, old: Shape, *, key: bool = False, reads: frozenset[str] = frozenset()) -> str | None:
    """Why bytes of the old shape cannot be read by the new; None where they can.

    Args:
        key: they are keys: these must have the same bytes again.
        reads: versions that a codec of the user's reads besides its own.
    """
    if new == old or (new.codec == "bytes" and new.of is None):  # these are any bytes
        return None
    if new.codec != old.codec:
        return f"they were written by {_named(old)}, and are read by {_named(new)}"
    if new.codec not in OWN:
        if new.version == old.version or (old.version or "") in reads:
            return None
        return f"version {old.version} of {old.codec} wrote them, and it has version {new.version} now"
    if new.of is None or old.of is None:
        return "it has limits now, and any bytes may be there"
    return _Comparing(new, old, exact=key).why(new.of, old.of, "")


def _named(shape: Shape) -> str:
    return {"json": "a type that travels as JSON", "text": "str", "bytes": "bytes"}.get(
        shape.codec, f"codec {shape.codec}"
    )


class _Comparing:
    def __init__(self, new: Shape, old: Shape, *, exact: bool) -> None:
        self._new, self._old, self._exact = new.records, old.records, exact
        self._met: set[tuple[int, int]] = set()  # pairs of records that are being compared, or were

    def why(self, new: Node, old: Node, at: str) -> str | None:
        """Why `new` does not read `old`. `at` is the way to them, for messages: ".price"."""
        if isinstance(old, Either):
            return next((why for one in old.of if (why := self.why(new, one, at)) is not None), None)
        if isinstance(new, Ref) and isinstance(old, Ref):
            if (new.to, old.to) in self._met:  # as far as it has been seen, they fit: what does not is told elsewhere
                return None
            self._met.add((new.to, old.to))
        mine, theirs = self._resolved(new, self._new), self._resolved(old, self._old)
        if isinstance(mine, Scalar) and mine.kind == "any":
            return None if not self._exact or mine == theirs else _differ(mine, theirs, at)
        if isinstance(mine, Either):
            return self._either(mine, theirs, old, at)
        match mine, theirs:
            case Scalar(), Scalar():
                fits = mine.kind == theirs.kind or (not self._exact and theirs.kind in _WIDER.get(mine.kind, ()))
                text = mine.kind == "str" and theirs.kind != "str" and bool(mine.limits)
                return None if fits and not text and _within(mine.limits, theirs.limits) else _differ(mine, theirs, at)
            case Choice(), Choice():
                flags = mine.flag == theirs.flag if theirs.flag or self._exact else True
                return None if flags and _among(theirs, mine) else _differ(mine, theirs, at)
            case Scalar(), Choice():
                return None if self._takes(mine, theirs) else _differ(mine, theirs, at)
            case Items(), Items():
                return self._items(mine, theirs, at)
            case Items(), Record(array=True) if not self._exact and not mine.limits and not mine.unique:
                if theirs.tag is not None:
                    return _differ(mine, theirs, at)
                return self._first(self.why(mine.of, field.of, f"{at}[{n}]") for n, field in enumerate(theirs.fields))
            case Entries(), Entries():
                if not _within(mine.limits, theirs.limits):
                    return _differ(mine, theirs, at)
                return self._keys(mine, theirs, at) or self.why(mine.of, theirs.of, f"{at}[...]")
            case Entries(), Record(array=False) if not self._exact and not mine.limits:
                if mine.keys not in (Scalar("str"), Scalar("any")):
                    return _differ(mine, theirs, at)
                return self._first(self.why(mine.of, field.of, f"{at}.{field.name}") for field in _fields(theirs))
            case Record(), Record():
                return self._record(mine, theirs, at)
        return _differ(mine, theirs, at)

    @staticmethod
    def _first(found: Iterator[str | None]) -> str | None:
        return next((why for why in found if why is not None), None)

    @staticmethod
    def _resolved(node: Node, records: tuple[Record, ...]) -> Node:
        return records[node.to] if isinstance(node, Ref) else node

    def _takes(self, new: Scalar, old: Choice) -> bool:
        """Whether a scalar takes each of the values."""
        if new.limits or (self._exact and new.kind not in ("int", "str")):
            return False
        if old.flag or all(isinstance(one, int) for one in old.values):
            return new.kind in ("int", "float", "decimal")
        return new.kind == "str" and all(isinstance(one, str) for one in old.values)

    def _items(self, new: Items, old: Items, at: str) -> str | None:
        if self._exact and new.unique != old.unique:
            return _differ(new, old, at)
        if new.unique and not old.unique and (new.limits or not isinstance(new.of, Scalar | Choice)):
            return _differ(new, old, at)  # there may be fewer when equal ones are one, or they may not be hashable
        if not _within(new.limits, old.limits):
            return _differ(new, old, at)
        return self.why(new.of, old.of, f"{at}[...]")

    def _keys(self, new: Entries, old: Entries, at: str) -> str | None:
        """The keys of JSON's objects are strings, numbers too: one of another kind may not be read back from them."""
        if new.keys == old.keys or (not self._exact and new.keys in (Scalar("str"), Scalar("any"))):
            return None
        if isinstance(new.keys, Choice) and isinstance(old.keys, Choice) and _among(old.keys, new.keys):
            return None
        return _differ(new.keys, old.keys, f"{at} (keys)")

    def _record(self, new: Record, old: Record, at: str) -> str | None:
        if new.array != old.array:
            return f"{_at(at)} was written as {'a list' if old.array else 'an object'}, and is not now"
        if new.tag is not None and new.tag != old.tag:
            was = "no tag" if old.tag is None else f"the tag {old.tag[0]}={old.tag[1]!r}"
            return f"{_at(at)} had {was}, and has {new.tag[0]}={new.tag[1]!r} now"
        if self._exact or new.array:
            if new.tag != old.tag:
                return f"{_at(at)} had a tag, and has none now"
            return self._in_order(new, old, at)
        theirs = {field.name: field for field in _fields(old)}
        for field in new.fields:
            known = theirs.pop(field.name, None)
            if known is None:
                if field.needed:
                    return f"{_at(f'{at}.{field.name}')} is new, and has no default"
                continue
            why = self.why(field.of, known.of, f"{at}.{field.name}")
            if why is None and not known.always:
                why = self._left_out(field, known, f"{at}.{field.name}")
            if why is not None:
                return why
        if new.tag is not None:
            theirs.pop(new.tag[0], None)
        if theirs and new.closed:
            return f"{_at(f'{at}.{next(iter(theirs))}')} is gone, and fields that are not known are forbidden"
        return None

    def _in_order(self, new: Record, old: Record, at: str) -> str | None:
        """Fields by their place, or of keys, whose bytes hang on the order of all fields."""
        if self._exact and (len(new.fields) != len(old.fields) or new.array != old.array):
            return f"{_at(at)} has other fields than before"
        for place, field in enumerate(new.fields):
            here = f"{at}[{place}]" if new.array else f"{at}.{field.name}"
            if place >= len(old.fields):
                if field.needed:
                    return f"{_at(here)} is new, and has no default"
                continue
            known = old.fields[place]
            if self._exact and not new.array and (field.name, field.always) != (known.name, known.always):
                return f"{_at(here)} was {known.name}"
            if self._exact and not field.always and field.default != known.default:
                return f"{_at(here)} has another default than before"
            if (why := self.why(field.of, known.of, here)) is not None:
                return why
        if len(old.fields) > len(new.fields) and new.closed:
            return f"{_at(at)} had {len(old.fields)} items, and has {len(new.fields)} now"
        return None

    @staticmethod
    def _left_out(new: Field, old: Field, at: str) -> str | None:
        if new.needed:
            return f"{_at(at)} may be left out in what is stored, and must be there now"
        if old.default is not UNSET and new.default != old.default:
            now = "something else" if new.default is UNSET else repr(new.default)
            return f"{_at(at)} is left out in what is stored where it is {old.default!r}, and would be read as {now}"
        return None

    def _either(self, new: Either, theirs: Node, old: Node, at: str) -> str | None:
        """A reader of several types goes by what JSON has: a whole number is for int where there is one."""
        members = [(one, self._resolved(one, self._new)) for one in new.of]
        if isinstance(theirs, Record) and theirs.tag is not None:
            for one, mine in members:
                if isinstance(mine, Record) and mine.tag == theirs.tag and mine.array == theirs.array:
                    return self.why(one, old, at)
        for wanted in _categories(theirs):
            chosen = [one for one, mine in members if _categories(mine)[0] == wanted]
            plain = [one for one in chosen if one == Scalar(wanted)]  # where there are literals beside it, it wins
            if chosen:
                return self._first(self.why(one, old, at) for one in plain or chosen)
        return _differ(new, theirs, at)


def _categories(node: Node) -> tuple[str, ...]:
    """What a value is in JSON; then what else may take it, the nearest first."""
    match node:
        case Scalar(kind="any"):
            return ("any",)
        case Scalar(kind="int"):
            return ("int", "float", "decimal", "any")
        case Scalar(kind="float"):
            return ("float", "decimal", "any")
        case Scalar(kind="bool" | "null" as kind):
            return (kind, "any")
        case Scalar(kind="decimal"):
            return ("decimal", "str", "any")
        case Scalar():
            return ("str", "any")
        case Choice():
            return ("int", "float", "any") if all(isinstance(one, int) for one in node.values) else ("str", "any")
        case Items() | Record(array=True):
            return ("list", "any")
    return ("object", "any")


def _fields(record: Record) -> list[Field]:
    """With the tag, which is one in what is written."""
    tag = [] if record.tag is None else [Field(record.tag[0], Choice((record.tag[1],)))]
    return [*tag, *record.fields]


def _among(old: Choice, new: Choice) -> bool:
    return all(any(type(one) is type(other) and one == other for other in new.values) for one in old.values)


def _within(new: Limits, old: Limits) -> bool:
    """Whether what kept the old limits keeps the new ones."""
    for name, limit in new.items():
        was = old.get(name)
        if was is None:
            return False
        if name in _LOWER and was >= limit:  # type: ignore[operator]
            continue
        if name in _UPPER and was <= limit:  # type: ignore[operator]
            continue
        if was != limit:
            return False
    return True


def _differ(new: Node, old: Node, at: str) -> str:
    return f"{_at(at)} was {_plain(old)}, and is {_plain(new)} now"


def _plain(node: Node) -> str:
    match node:
        case Record():
            return node.name
        case Ref():
            return "a record"
    return str(Shape("json", node if not isinstance(node, Items | Entries | Either) else _bare(node)))


def _bare(node: Items | Entries | Either) -> Scalar:
    return Scalar({Items: "a list", Entries: "a dict", Either: "a union"}[type(node)])


def _at(way: str) -> str:
    return "it" if not way else f"field {way[1:]}" if way.startswith(".") else f"its item {way}"
