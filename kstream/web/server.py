"""The web server of an instance: uvicorn on an event loop of its own, in a thread of the supervisor's process."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import threading
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import uvicorn
from starlette.applications import Starlette

from kstream.errors import ConfigError
from kstream.observe.observed import Observed
from kstream.web.api import make_app
from kstream.web.connections import ACCEPTED_AT_ONCE, HEADER_BYTES, HEADER_SECONDS, connection, on_loop_error
from kstream.web.feed import Feed
from kstream.web.state import State

__all__ = ["WebServer", "make_app"]

FIRST_PORT: Final = 8010
PORTS: Final = 200
"""Ports tried from the first one on, when none is given."""
WAITING: Final = 128
"""Connections that the system keeps until they are taken. Where there is no room for one, its client tries again after
a second."""
DATE_SECONDS: Final = 1.0
GRACE: Final = 0.5
"""Seconds that requests may take to end when the server stops; then their connections are cut."""


class WebServer:
    """Serves `observed` from `start()` to `stop()`.

    The `port` given may be None, the first free one from 8010 on, or 0, any free one; `start()` sets the real one.
    `names` are those it may be asked under, besides localhost and `host` (see guard.py).
    `tls` is None to serve without; `state` is what answers queries of state, None where nothing does.
    """

    def __init__(
        self,
        observed: Observed,
        token: str,
        host: str,
        port: int | None,
        names: Iterable[str] = (),
        tls: ssl.SSLContext | None = None,
        state: State | None = None,
    ) -> None:
        feed = Feed(observed)
        self.host = host
        self.scheme = "http" if tls is None else "https"
        self._wanted = port
        self._port: int | None = None
        self._server = _Server(make_app(observed, token, feed, [host, *names], state), feed, tls)
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError("the web server was not started")
        return self._port

    @property
    def url(self) -> str:
        """As this machine reaches it, without a slash at the end."""
        here = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self.host, self.host)
        return f"{self.scheme}://[{here}]:{self.port}" if ":" in here else f"{self.scheme}://{here}:{self.port}"

    def start(self) -> None:
        """Binds in the caller's thread and serves in its own.

        Raises:
            ConfigError: the port is in use, or host and port cannot be listened on.
        """
        self._socket = _listen(self.host, self._wanted)
        self._port = int(self._socket.getsockname()[1])
        self._thread.start()

    def stop(self) -> None:
        """Ends open streams and waits for the thread, a second or so at most."""
        self._server.end()
        if self._thread.is_alive():
            self._thread.join(GRACE + 2)
        if self._socket is not None:
            self._socket.close()

    def _serve(self) -> None:
        assert self._socket is not None
        asyncio.run(self._serve_on(self._socket))

    async def _serve_on(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(on_loop_error)
        if self.scheme == "https":  # whoever connects and says nothing: a minute by default
            create = partial(loop.create_server, ssl_handshake_timeout=HEADER_SECONDS)
            loop.create_server = create  # type: ignore[method-assign]  # uvicorn has no setting for it
        await self._server.serve(sockets=[listening])


class _Server(uvicorn.Server):
    """Does nothing about signals, because it never runs in the main thread; writes no access lines."""

    def __init__(self, app: Starlette, feed: Feed, tls: ssl.SSLContext | None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=connection(),
                h11_max_incomplete_event_size=HEADER_BYTES,
                backlog=ACCEPTED_AT_ONCE,
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                log_level="warning",
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=2,
            )
        )
        self.config.load()
        self.config.ssl = tls
        self._feed = feed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Called by any thread."""
        self.should_exit = True  # first: a loop that begins now looks at it
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._ending.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or ():
            listening.listen(WAITING)  # asyncio has made it as many as it takes in one turn

    async def main_loop(self) -> None:
        """Uvicorn looks ten times a second whether it is to end. This one is told, and wakes for the date alone."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), DATE_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Streams end first: they would be waited for. Whoever does not even read the end is cut off."""
        self._feed.close()
        deadline = asyncio.get_running_loop().time() + GRACE
        while self.server_state.tasks and asyncio.get_running_loop().time() < deadline:
            await asyncio.wait(self.server_state.tasks, timeout=GRACE)
        for one in list(self.server_state.connections):
            if self.server_state.tasks and one.transport is not None:
                one.transport.abort()
        await super().shutdown(sockets)


def _listen(host: str, port: int | None) -> socket.socket:
    """A listening socket on the port, or on the first free one."""
    try:
        family, *_, address = socket.getaddrinfo(host or "0.0.0.0", 0, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ConfigError(f"web_host: {host!r} is not an address of this machine ({error.strerror or error})") from None
    for candidate in range(FIRST_PORT, FIRST_PORT + PORTS) if port is None else (port,):
        try:
            return _bound(family, (address[0], candidate, *address[2:]))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ConfigError(
                    f"web_port: cannot listen on {host}:{candidate} ({error.strerror}); change web_host or web_port"
                ) from None
    if port is None:
        raise ConfigError(f"web_port: none of {FIRST_PORT} to {FIRST_PORT + PORTS - 1} is free on {host}; set one")
    raise ConfigError(f"web_port: {port} is in use on {host}; set another one, or auto for the first free one")


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a restart would wait for old connections
        listening.bind(address)
        listening.listen(WAITING)  # here, because two may bind as long as none listens
    except OSError:
        listening.close()
        raise
    return listening
