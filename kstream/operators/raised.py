"""What user code raises is the failure of what it was called for, whatever its class is and does.

Two kinds would be taken for something else: kstream's own errors that lead to an abort, a new producer or a rebuild of
the state, where a function of the user's raises them; and exceptions that raise when they are looked at. This is the
one place that looks at what came out of user code; what it gives can be looked at.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from kstream.errors import KStreamError, ResultFailed, StateError, TransactionError, text_of

CONTROL: Final = (TransactionError, StateError, ResultFailed)
"""By which the engine is steered."""
CALLERS: Final = ("kstream.operators.", "kstream.dsl.", "kstream.runtime.task.")
"""Modules that call functions of the user's. What state and clients call is no user code."""

# as Python has them, whatever a class of the user's says
_cause: Any = BaseException.__dict__["__cause__"]
_context: Any = BaseException.__dict__["__context__"]
_trace: Any = BaseException.__dict__["__traceback__"]


class Unreadable(Exception):
    """Stands for an exception of the user's that raises when it is looked at. The text names its class."""


def fair(error: BaseException) -> BaseException:
    """What was raised, as the failure that it is: the same, or what stands for it."""
    kind = type(error)
    if issubclass(kind, CONTROL) and _is_users(_trace.__get__(error)):
        found = KStreamError(f"{kind.__name__}: {text_of(error)} (a function raised it, and it is kstream's own)")
        found.__cause__, found.__traceback__ = error, _trace.__get__(error)
        return found
    return readable(error)


def readable(error: BaseException) -> BaseException:
    """The same; what cannot be looked at of it, and of those that it was raised from, is stood for."""
    if not _can_be_read(error):
        return _instead_of(error)
    left, seen = [error], {id(error)}
    while left:
        one = left.pop()
        if isinstance(one, BaseExceptionGroup):
            left += [inside for inside in one.exceptions if id(inside) not in seen]
            seen.update(map(id, one.exceptions))
        for link in (_cause, _context):
            other = link.__get__(one)
            if other is not None and not _can_be_read(other):
                link.__set__(one, _instead_of(other))
            elif other is not None and id(other) not in seen:
                seen.add(id(other))
                left.append(other)
    return error


def _instead_of(error: BaseException) -> Unreadable:
    kind = type(error)
    found = Unreadable(f"{kind.__module__}.{kind.__qualname__} (it raises when it is looked at)")
    found.__traceback__ = _trace.__get__(error)
    return found


def _can_be_read(error: BaseException) -> bool:
    try:
        isinstance(error, _Nobodys)  # asks for its __class__
        _ = error.__cause__, error.__context__, error.__traceback__, error.__suppress_context__, error.args
        inside = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
        kind: Any = error.__class__
        return all(map(_can_be_read, inside)) if isinstance(kind, type) else False
    except KeyboardInterrupt:
        raise
    except BaseException:
        return False


class _Nobodys:
    pass


def _is_users(trace: TracebackType | None) -> bool:
    """Whether it was raised in a function of the user's: behind the last frame of kstream's come others."""
    caller, users = "", False
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        users = name.partition(".")[0] != "kstream"
        if not users:
            caller = name
        trace = trace.tb_next
    return users and caller.startswith(CALLERS)
