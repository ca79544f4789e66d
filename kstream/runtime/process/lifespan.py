"""The app's lifespan in a worker: what goes wrong in it is one error that says where."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from kstream.config.loading import told
from kstream.errors import LifespanFailed
from kstream.runtime.task.context import Worker

Lifespan = Callable[[Worker], AsyncIterator[None]]


def watched(lifespan: Lifespan) -> Lifespan:
    """The same lifespan. Raises LifespanFailed for whatever it raises, `sys.exit` too."""

    async def run(worker: Worker) -> AsyncIterator[None]:
        try:
            running = lifespan(worker)
            await anext(running)
        except StopAsyncIteration:
            text = "the lifespan ended without a yield: it prepares, yields once, and releases"
            raise LifespanFailed(text) from None
        except (Exception, SystemExit) as error:
            raise LifespanFailed(f"the lifespan failed before its yield: {told(error)}") from error
        yield
        try:
            await anext(running, None)
        except (Exception, SystemExit) as error:
            raise LifespanFailed(f"the lifespan failed after its yield: {told(error)}") from error

    return run
