"""A pool of objects that are expensive to make: clients, connections, models."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from kstream.errors import KStreamError

log = logging.getLogger(__name__)

T = TypeVar("T")

_STOCKS: WeakSet[_Stock[Any]] = WeakSet()


@dataclass(slots=True)
class _Lent(Generic[T]):
    """`old`: the pool was closed since. Either way it is closed when it comes back."""

    thing: T
    broken: bool = False
    old: bool = False


class Pool(Generic[T]):
    """At most `size` objects in each worker process, made when they are wanted and lent to one borrower at a time.

        with pool.borrow() as client: ...
        async with pool.borrow() as client: ...

    What was borrowed comes back also when the block fails; `discard` says that it is broken: then it is closed, and
    another may be made in its place. The one that came back last is lent first. The end of the worker closes them all,
    those that are lent when they come back.

    Args:
        factory: makes one object. What it raises reaches the borrower, and takes no place.
        size: how many there are at most.
        close: how one is closed, a function that may be async; default: its `aclose()` or `close()`, where it has one.

    Raises:
        KStreamError: the size is not 1 or more, or the factory cannot be called.
    """

    def __init__(
        self, factory: Callable[[], T], size: int, *, close: Callable[[T], Awaitable[Any] | Any] | None = None
    ) -> None:
        making: Any = factory
        if size.__class__ is not int or size < 1:
            raise KStreamError(f"Pool: size={size!r} is not a number of objects: give it 1 or more")
        if not callable(making) or inspect.iscoroutinefunction(factory):
            raise KStreamError(f"Pool: {factory!r} cannot make objects: give it a function that is not async")
        self._stock = _Stock(factory, size, close)

    def __repr__(self) -> str:
        return repr(self._stock)

    def borrow(self, timeout: float = 30.0) -> Loan[T]:
        """A context manager, for `with` and for `async with`, that gives one object.

        Args:
            timeout: seconds to wait for one, while all are lent.

        Raises:
            KStreamError: (on entering) none came back in that time; or all are lent, and `with` would hold up the
                event loop in which they are to come back.
        """
        return Loan(self._stock, timeout)

    def discard(self, thing: T) -> None:
        """The borrowed object is broken: it is closed when it comes back. Raises KStreamError when it is not lent."""
        self._stock.discard(thing)

    async def aclose(self) -> None:
        """Closes what is free; what is lent is closed when it comes back. The pool may go on being used."""
        await self._stock.aclose()


class _Stock(Generic[T]):
    """What a pool has: the pool and its loans share it.

    Attributes:
        size: how many objects there are at most.
        changed: held while what follows is read or changed, and notified when something came free.
        waiting: called when something came free, once: they wake those who await.
    """

    def __init__(self, factory: Callable[[], T], size: int, close: Callable[[T], Awaitable[Any] | Any] | None) -> None:
        self._factory, self.size, self._close = factory, size, close
        self.changed = threading.Condition()
        self._free: list[T] = []
        self._lent: dict[int, _Lent[T]] = {}
        self._made = 0  # free, lent and in the making
        self.waiting: set[Callable[[], object]] = set()
        _STOCKS.add(self)

    def __repr__(self) -> str:
        return f"Pool(size={self.size}, free={len(self._free)}, lent={len(self._lent)})"

    @property
    def all_lent(self) -> bool:
        """Nothing is free, and nothing more may be made. Asked while `changed` is held."""
        return not self._free and self._made >= self.size

    def discard(self, thing: T) -> None:
        with self.changed:
            lent = self._lent.get(id(thing))
            if lent is None:
                raise KStreamError(f"Pool: {thing!r} is not lent: discard what was borrowed, within its block")
            lent.broken = True

    async def aclose(self) -> None:
        with self.changed:
            free, self._free = self._free, []
            self._made -= len(free)
            for lent in self._lent.values():
                lent.old = True
            self._wake()
        for thing in free:
            result = self._closing(thing)
            if inspect.isawaitable(result):
                await self.closed(result)

    def take(self) -> T | None:
        """One that is free or made now; None while all are lent."""
        with self.changed:
            if self._free:
                return self._lend(self._free.pop())
            if self._made >= self.size:
                return None
            self._made += 1
        try:
            thing = self._factory()
            if thing is None or inspect.isawaitable(thing):
                raise KStreamError(f"Pool: the factory gave {thing!r}, which is no object to lend")
        except BaseException:
            with self.changed:
                self._made -= 1
                self._wake()
            raise
        with self.changed:
            return self._lend(thing)

    def _lend(self, thing: T) -> T:
        self._lent[id(thing)] = _Lent(thing)
        return thing

    def give_back(self, thing: T) -> Any:
        """Returns what is to be awaited, where its closing is async."""
        with self.changed:
            lent = self._lent.pop(id(thing))
            if lent.broken or lent.old:
                self._made -= 1
            else:
                self._free.append(thing)
                thing = None  # type: ignore[assignment]
            self._wake()
        return None if thing is None else self._closing(thing)

    def _wake(self) -> None:
        self.changed.notify_all()
        for wake in self.waiting:
            wake()
        self.waiting.clear()

    def _closing(self, thing: T) -> Any:
        close: Any = self._close
        if close is None:
            method = getattr(thing, "aclose", None) or getattr(thing, "close", None)
            close = (lambda _: method()) if callable(method) else (lambda _: None)
        try:
            return close(thing)
        except Exception as error:
            log.warning("an object of a pool could not be closed: %s: %s", type(error).__name__, error)
            return None

    async def closed(self, result: Awaitable[Any]) -> None:
        try:
            await result
        except Exception as error:
            log.warning("an object of a pool could not be closed: %s: %s", type(error).__name__, error)

    def none_came(self, timeout: float) -> KStreamError:
        return KStreamError(f"Pool: all {self.size} objects are lent, and none came back within {timeout:g} s")


class Loan(Generic[T]):
    """One object of a pool, for the time of a `with` or `async with` block."""

    def __init__(self, stock: _Stock[T], timeout: float) -> None:
        self._stock, self._timeout = stock, timeout
        self._things: list[T] = []

    def __enter__(self) -> T:
        stock, deadline = self._stock, time.monotonic() + self._timeout
        while (thing := stock.take()) is None:
            asyncio = sys.modules.get("asyncio")
            if asyncio is not None and asyncio._get_running_loop() is not None:
                raise KStreamError(f"Pool: all {stock.size} objects are lent: write async with, which can wait")
            with stock.changed:
                if stock.all_lent:
                    left = deadline - time.monotonic()
                    if left <= 0 or not stock.changed.wait(left):
                        raise stock.none_came(self._timeout)
        self._things.append(thing)
        return thing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        result = self._stock.give_back(self._things.pop())
        if inspect.isawaitable(result):
            import asyncio

            try:
                asyncio.get_running_loop().create_task(self._stock.closed(result))
            except RuntimeError:
                asyncio.run(self._stock.closed(result))

    async def __aenter__(self) -> T:
        import asyncio

        stock, loop = self._stock, asyncio.get_running_loop()
        deadline = loop.time() + self._timeout
        while (thing := stock.take()) is None:
            came = asyncio.Event()

            def wake(came: asyncio.Event = came) -> None:
                loop.call_soon_threadsafe(came.set)

            with stock.changed:
                if not stock.all_lent:
                    continue
                stock.waiting.add(wake)
            try:
                await asyncio.wait_for(came.wait(), deadline - loop.time())
            except TimeoutError:
                raise stock.none_came(self._timeout) from None
            finally:
                with stock.changed:
                    stock.waiting.discard(wake)
        self._things.append(thing)
        return thing

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        result = self._stock.give_back(self._things.pop())
        if inspect.isawaitable(result):
            await self._stock.closed(result)


async def close_pools() -> None:
    """The worker ends: all pools of the process close what they have."""
    for stock in list(_STOCKS):
        await stock.aclose()
