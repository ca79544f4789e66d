"""Turns of the event loop of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing it takes 20 ms
    import asyncio


def turn(loop: asyncio.AbstractEventLoop) -> None:
    """One turn of the event loop: all that is ready now runs, it does not wait."""
    loop.call_soon(loop.stop)
    run(loop)


def run(loop: asyncio.AbstractEventLoop) -> None:
    """Until it is stopped. The `sys.exit` of a task is what that task failed with, as any other exception, and who
    waits for it hears of it. Let out of the loop, as asyncio does, it would be laid at whoever gave the loop this turn,
    or end the worker."""
    try:
        loop.run_forever()
    except SystemExit:
        turn(loop)  # what is left of it, its stop too
