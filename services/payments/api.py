"""A payment API that fails now and then, for the same orders each time: a small HTTP server for tests and for trying.

    python -m services.payments.api [PORT]

`POST /charges` charges an order (JSON: number, customer, amount) and answers 200 with the charge's name. It is
idempotent by the order's number. How it fails goes by the number too: one in ten is answered with 503 the first time,
or the first two times, and the second time it has been charged nevertheless; one in a hundred is answered with 402.
`POST /mend` ends that: nothing fails any more.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

import msgspec

from services.payments.client import Answer, Order

PORT = 8086


def unavailable(number: int) -> int:
    """How often an order is answered with 503."""
    return {3: 1, 13: 2}.get(number % 20, 0)


def declined(number: int) -> bool:
    """Whether an order is answered with 402 until the API is mended."""
    return number % 100 == 99


class PaymentApi:
    """The API on a thread of its own, from `with` to its end.

    Attributes:
        charges: the order behind each charge, by the charge's name.
        answers: for each order that was charged, all names of charges that were answered, in order.
        asked: how often each order came.
        mended: nothing fails any more.
        down: everything is answered with 503.
    """

    def __init__(self, port: int = 0) -> None:
        self.charges: dict[str, Order] = {}
        self.answers: dict[int, list[str]] = defaultdict(list)
        self.asked: Counter[int] = Counter()
        self.mended = self.down = False
        self._names: dict[int, str] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.api = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="payment API")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> PaymentApi:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def charge(self, order: Order) -> tuple[int, bytes]:
        """Status and body of the answer."""
        with self._lock:
            self.asked[order.number] += 1
            asked, fails = self.asked[order.number], 0 if self.mended else unavailable(order.number)
            if declined(order.number) and not self.mended:
                return 402, b"the card is declined"
            if self.down or asked <= fails:
                if asked == 2:  # the answer to what was done is lost
                    self._name(order)
                return 503, b"come again"
            name = self._name(order)
            if self.charges[name] != order:
                return 409, f"{name} was for something else".encode()
            self.answers[order.number].append(name)
            return 200, msgspec.json.encode(Answer(name))

    def _name(self, order: Order) -> str:
        """Of the charge of this order, which is made where there is none."""
        if order.number not in self._names:
            name = self._names[order.number] = f"charge-{len(self._names) + 1}"
            self.charges[name] = order
        return self._names[order.number]


class _Server(ThreadingHTTPServer):
    api: PaymentApi
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body of an answer leave together

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/mend":
            self.server.api.mended = True
            self._answer(200, b"mended")
        elif self.path == "/charges":
            try:
                order = msgspec.json.decode(body, type=Order)
            except msgspec.DecodeError as error:
                self._answer(400, str(error).encode())
            else:
                self._answer(*self.server.api.charge(order))
        else:
            self._answer(404, b"POST /charges or /mend")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A line for each request would be too many."""


if __name__ == "__main__":
    with PaymentApi(int(sys.argv[1]) if len(sys.argv) > 1 else PORT) as served:
        print(f"payment API on {served.url}; Ctrl-C ends it")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(f"{len(served.charges)} charges")
