"""A server that speaks S3's protocol, and storages on it and in directories, for the tests of snapshots."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@dataclass
class Objects:
    """A running server. `environment` is what clients find it by."""

    endpoint: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.environment = {
            **KEYS,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
        }

    def bucket(self) -> str:
        """A new one; its name."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=60).close()
        return name


@contextmanager
def s3_server() -> Iterator[Objects]:
    """Moto's, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield Objects(f"http://{host}:{port}")
    finally:
        server.stop()


Trouble = Callable[[str, str], str | None]
"""What befalls a request, by its method and path: None, "503", "403", "reset", "slow" or "cut" (it ends early)."""


class TroubledProxy:
    """Stands before a server, and does to its requests what `trouble` says. `requests` are those it saw."""

    def __init__(self, endpoint: str) -> None:
        self.trouble: Trouble = lambda method, path: None
        self.seconds = 0.2
        self.requests: list[tuple[str, str]] = []
        proxy, target = self, endpoint

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                return

            def _serve(self) -> None:
                body = self._body()
                proxy.requests.append((self.command, self.path))
                what = proxy.trouble(self.command, self.path)
                if what == "reset":
                    return self._reset()
                if what is not None and what.isdigit():
                    return self._answer(int(what), {}, b"<Error><Code>Trouble</Code></Error>")
                if what == "slow":
                    threading.Event().wait(proxy.seconds)
                request = urllib.request.Request(f"{target}{self.path}", data=body or None, method=self.command)
                request.add_header("content-type", "application/octet-stream")  # else urllib calls it a form
                for name, value in self.headers.items():
                    if name.lower() not in (
                        "host",
                        "content-length",
                        "connection",
                        "accept-encoding",
                        "transfer-encoding",
                    ):
                        request.add_header(name, value)
                if self.command in ("PUT", "POST") and not body:
                    request.data = b""
                try:
                    with urllib.request.urlopen(request, timeout=60) as answer:
                        status, headers, data = answer.status, dict(answer.headers), answer.read()
                except urllib.error.HTTPError as error:
                    status, headers, data = error.code, dict(error.headers), error.read()
                if what == "cut":
                    self.send_response(status)
                    self.send_header("content-length", str(len(data)))
                    for name in ("etag", "last-modified", "ETag", "Last-Modified"):
                        if name in headers:
                            self.send_header(name, headers[name])
                    self.end_headers()
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    return self._reset()
                self._answer(status, headers, data)

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding", "").lower() != "chunked":
                    return self.rfile.read(int(self.headers.get("content-length") or 0))
                body = b""
                while length := int(self.rfile.readline().partition(b";")[0], 16):
                    body += self.rfile.read(length)
                    self.rfile.readline()
                self.rfile.readline()
                return body

            def _answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def _reset(self) -> None:
                with suppress(OSError):
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                    self.connection.close()
                self.close_connection = True

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                return  # a client that went away, or a connection that was reset on purpose

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
