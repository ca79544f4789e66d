"""Whether the members of a set lie in an order. Keys that are equal must have equal bytes, so a set in a key is written
in the order of its members: where they have none it cannot be written, or not always in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from types import NoneType
from typing import Any, Final, get_origin

from msgspec import Struct, inspect

SETS: Final = (inspect.SetType, inspect.FrozenSetType)

_NUMBER: Final = "a number"

_ORDERS: Final[dict[type, Any]] = {
    inspect.BoolType: _NUMBER, inspect.IntType: _NUMBER, inspect.FloatType: _NUMBER, inspect.DecimalType: _NUMBER,
    inspect.StrType: str, inspect.BytesType: bytes, inspect.NoneType: NoneType,
}  # fmt: skip
"""Types of msgspec's by what they are compared with: those of one order lie in it, and with no other."""
_OTHERS: Final = (inspect.DateTimeType, inspect.DateType, inspect.TimeType, inspect.TimeDeltaType, inspect.UUIDType)
"""Each is compared with its own kind only."""
_NONE: Final = tuple(vars(cls)["__lt__"] for cls in Struct.__mro__ if "__lt__" in vars(cls))
"""What classes have that define no order."""


class NoOrder(Exception):
    """The members of a set lie in none; it says why."""


def check_members(info: inspect.SetType | inspect.FrozenSetType) -> None:
    """Raises NoOrder. What is not known (Any) is let through, and seen when it is written."""
    _order_of(info.item_type, ())


def _order_of(info: Any, above: tuple[Any, ...]) -> Any:
    """What these are compared with; None where that is not known.

    Args:
        above: records that it lies in: types may be recursive.
    """
    if isinstance(info, inspect.Metadata):
        return _order_of(info.type, above)
    if type(info) in _ORDERS:
        return _ORDERS[type(info)]
    if isinstance(info, _OTHERS):
        return type(info)
    match info:
        case inspect.EnumType():
            return _of_enum(info.cls)
        case inspect.LiteralType():
            return _one([_of_class(type(value)) for value in info.values], "values of a Literal")
        case inspect.UnionType():
            return _one([_order_of(one, above) for one in info.types], "members of several types")
        case inspect.TupleType():
            return _of_fields(tuple, info.item_types, above)
        case inspect.VarTupleType():
            return _of_fields(tuple, [info.item_type], above)
        case inspect.NamedTupleType():
            return _of_fields(tuple, [field.type for field in info.fields], above)
        case inspect.FrozenSetType():
            raise NoOrder("sets are compared by what is in them, so they lie in no order")
    cls = getattr(info, "cls", None)
    if cls is not None and not isinstance(info, inspect.TypedDictType):
        return _of_record(info, get_origin(cls) or cls, above)
    if isinstance(info, inspect.AnyType | inspect.RawType):
        return None
    raise NoOrder(f"a {type(info).__name__.removesuffix('Type').lower()} cannot be in a set")


def _of_enum(cls: Any) -> Any:
    for base in (str, bytes, int, float):
        if issubclass(cls, base):
            return _of_class(base)
    if cls.__lt__ in _NONE:
        raise NoOrder(f"{cls.__name__} is an enum without an order (IntEnum and StrEnum have one)")
    return cls


def _of_class(cls: type) -> Any:
    return _NUMBER if issubclass(cls, int | float) else cls


def _of_record(info: Any, cls: Any, above: tuple[Any, ...]) -> Any:
    settings = getattr(cls, "__struct_config__", None) or getattr(cls, "__dataclass_params__", None)
    if getattr(settings, "order", False):
        if cls not in above:
            _of_fields(cls, [field.type for field in info.fields], (*above, cls))
    elif cls.__lt__ in _NONE:
        raise NoOrder(f"{cls.__name__} has no order (order=True gives it one)")
    return cls


def _of_fields(cls: type, fields: Iterable[Any], above: tuple[Any, ...]) -> type:
    for field in fields:
        _order_of(field, above)
    return cls


def _one(orders: list[Any], what: str) -> Any:
    known = {one for one in orders if one is not None}
    if len(known) > 1:
        raise NoOrder(f"{what} cannot be compared with each other")
    return known.pop() if known else None
