"""What each query must come to: the same question in SQL, which DuckDB answers, over the same records.

DuckDB sees all records at once, in three tables with the fields of model.py and two more columns: `number`, the order
in which records come, and `arrived`, when they came to Kafka. Where SQL leaves open which of two equal rows is taken,
the order in which they come decides, here as there. Windows that the last records have not closed have no results yet:
those from `closing()` on.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec

import kstream
from services.nexmark.model import Auction, Bid, Event, Person
from services.nexmark.queries.single import side_input

Row = tuple[Any, ...]
Rows = Callable[[Any, Any], Iterable[Row]]
"""What a record of the results says, of its key and its value, as rows of the SQL's answer."""


def value_only(key: Any, value: Any) -> Iterator[Row]:
    yield flat(value)


def of_window(key: kstream.Windowed[Any], value: Any) -> Iterator[Row]:
    """The key, and when the window starts."""
    yield (key.key, key.start, *flat(value))


def keyed(key: Any, value: Any) -> Iterator[Row]:
    yield (key, *flat(value))


def of_session(key: kstream.WindowedSpan[Any], value: Any) -> Iterator[Row]:
    """The key, and the times of the first and the last record."""
    yield (key.key, key.start, key.end, *flat(value))


def of_named_window(key: kstream.Windowed[int], value: Any) -> Iterator[Row]:
    """The key is when the window starts that was counted in."""
    yield (key.key, *flat(value))


def of_each(key: Any, value: Any) -> Iterator[Row]:
    """A row for each entry of the last field."""
    *fields, entries = msgspec.structs.astuple(value)
    yield from ((*fields, entry) for entry in entries)


def numbered(key: Any, value: list[Any]) -> Iterator[Row]:
    yield from ((*flat(one), number) for number, one in enumerate(value, 1))


@dataclass(frozen=True)
class Asked:
    """A question, and how its results are read.

    Attributes:
        last: a later result of a key replaces the earlier one; else each counts.
    """

    sql: str
    rows: Rows = value_only
    last: bool = False


BIDS_OF_A_DAY: Final = """
    count(*),
    count(*) FILTER (price < 10_000),
    count(*) FILTER (price >= 10_000 AND price < 1_000_000),
    count(*) FILTER (price >= 1_000_000),
    count(DISTINCT bidder),
    count(DISTINCT bidder) FILTER (price < 10_000),
    count(DISTINCT bidder) FILTER (price >= 10_000 AND price < 1_000_000),
    count(DISTINCT bidder) FILTER (price >= 1_000_000),
    count(DISTINCT auction),
    count(DISTINCT auction) FILTER (price < 10_000),
    count(DISTINCT auction) FILTER (price >= 10_000 AND price < 1_000_000),
    count(DISTINCT auction) FILTER (price >= 1_000_000)"""

ASKED: Final[dict[str, Asked]] = {
    "q0": Asked("SELECT auction, bidder, price, channel, url, date_time, extra FROM bid"),
    "q1": Asked("SELECT auction, bidder, 0.908 * price, date_time, extra FROM bid"),
    "q2": Asked("SELECT auction, price FROM bid WHERE auction % 123 = 0"),
    "q3": Asked(
        """
SELECT name, city, state, auction.id
FROM auction JOIN person ON seller = person.id
WHERE category = 10 AND state IN ('OR', 'ID', 'CA')""",
        of_each,
        last=True,
    ),
    "q4": Asked(
        """
WITH finals AS (
    SELECT category, max(price) AS price
    FROM auction JOIN bid ON auction.id = bid.auction AND bid.date_time BETWEEN auction.date_time AND expires
    GROUP BY auction.id, category
)
SELECT category, sum(price) // count(*) FROM finals GROUP BY category""",
        keyed,
        last=True,
    ),
    "q5": Asked(
        """
WITH counts AS (
    SELECT time_bucket(INTERVAL 2 seconds, date_time) - hop * INTERVAL 2 seconds AS start, auction, count(*) AS bids
    FROM bid, range(5) AS hops(hop)
    GROUP BY ALL
)
SELECT start, auction, bids
FROM counts
WHERE start < closing()
QUALIFY rank() OVER (PARTITION BY start ORDER BY bids DESC) = 1""",
        of_named_window,
    ),
    "q7": Asked(
        """
SELECT time_bucket(INTERVAL 10 seconds, date_time) AS start, auction, bidder, price, channel, url, date_time, extra
FROM bid
WHERE start < closing()
QUALIFY rank() OVER (PARTITION BY start ORDER BY price DESC) = 1""",
        of_named_window,
    ),
    "q8": Asked(
        """
WITH came AS (SELECT id, name, time_bucket(INTERVAL 10 seconds, date_time) AS start FROM person),
     sold AS (SELECT DISTINCT seller, time_bucket(INTERVAL 10 seconds, date_time) AS start FROM auction)
SELECT id, name, came.start
FROM came JOIN sold ON id = seller AND came.start = sold.start
WHERE came.start < closing()""",
    ),
    "q9": Asked(
        """
SELECT a.* EXCLUDE (number, arrived), b.* EXCLUDE (number, arrived)
FROM auction AS a JOIN bid AS b ON a.id = b.auction AND b.date_time BETWEEN a.date_time AND expires
QUALIFY row_number() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.date_time, b.number) = 1""",
        last=True,
    ),
    "q11": Asked(
        """
WITH begun AS (
    SELECT *, date_time - lag(date_time) OVER one > INTERVAL 10 seconds AS anew
    FROM bid
    WINDOW one AS (PARTITION BY bidder ORDER BY date_time)
), numbered AS (
    SELECT *, count(*) FILTER (anew) OVER (PARTITION BY bidder ORDER BY date_time) AS session
    FROM begun
)
SELECT bidder, min(date_time) AS start, max(date_time), count(*)
FROM numbered
GROUP BY bidder, session
HAVING start < closing()""",
        of_session,
    ),
    "q12": Asked(
        "SELECT bidder, time_bucket(INTERVAL 10 seconds, arrived) AS start, count(*) FROM bid GROUP BY ALL",
        of_window,
        last=True,
    ),
    "q13": Asked(
        "SELECT auction, bidder, price, date_time, value FROM bid JOIN side ON auction % 10_000 = key",
    ),
    "q14": Asked(
        """
SELECT auction, bidder, 0.908 * price AS euros,
    CASE WHEN hour(date_time) BETWEEN 8 AND 18 THEN 'day'
         WHEN hour(date_time) <= 6 OR hour(date_time) >= 20 THEN 'night'
         ELSE 'other' END,
    date_time, extra, length(extra) - length(replace(extra, 'c', ''))
FROM bid
WHERE euros > 1_000_000 AND euros < 50_000_000""",
    ),
    "q15": Asked(
        f"""
SELECT 'all', date_trunc('day', date_time) AS day, strftime(max(date_time), '%H:%M'),{BIDS_OF_A_DAY}
FROM bid
GROUP BY day""",
        of_window,
        last=True,
    ),
    "q16": Asked(
        f"""
SELECT channel, date_trunc('day', date_time) AS day, strftime(max(date_time), '%H:%M'),{BIDS_OF_A_DAY}
FROM bid
GROUP BY channel, day""",
        of_window,
        last=True,
    ),
    "q17": Asked(
        """
SELECT auction, date_trunc('day', date_time) AS day,
    count(*),
    count(*) FILTER (price < 10_000),
    count(*) FILTER (price >= 10_000 AND price < 1_000_000),
    count(*) FILTER (price >= 1_000_000),
    min(price), max(price), sum(price) // count(*), sum(price)
FROM bid
GROUP BY auction, day""",
        of_window,
        last=True,
    ),
    "q18": Asked(
        """
SELECT auction, bidder, price, channel, url, date_time, extra
FROM bid
QUALIFY row_number() OVER (PARTITION BY bidder, auction ORDER BY date_time DESC, number DESC) = 1""",
        last=True,
    ),
    "q19": Asked(
        """
SELECT auction, bidder, price, channel, url, date_time, extra,
    row_number() OVER (PARTITION BY auction ORDER BY price DESC, number) AS place
FROM bid
QUALIFY place <= 10""",
        numbered,
        last=True,
    ),
    "q20": Asked(
        """
SELECT a.* EXCLUDE (number, arrived), b.* EXCLUDE (number, arrived)
FROM bid AS b JOIN auction AS a ON b.auction = a.id
WHERE category = 10""",
    ),
    "q22": Asked(
        """
SELECT auction, bidder, price, channel,
    split_part(url, '/', 4), split_part(url, '/', 5), split_part(url, '/', 6)
FROM bid""",
    ),
}


def flat(value: Any) -> Row:
    """A value as a row: its fields, those of lists one by one, times in ms since the epoch."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.astuple(value)
    if isinstance(value, datetime):
        return (round((value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000),)
    if isinstance(value, (tuple, list)):
        return tuple(part for one in value for part in flat(one))
    return (value,)


class Oracle:
    """Knows the answers for some records.

    Args:
        events: in the order in which they come.
        closing: event time of the records that closed the windows.
        arrived: of each record, when it came to Kafka, in ms; where a query asks for it.
    """

    def __init__(self, events: Iterable[Event], closing: datetime, arrived: Iterable[int] | None = None) -> None:
        self._database = duckdb.connect()
        encode = msgspec.json.Encoder().encode
        with tempfile.TemporaryDirectory(prefix="nexmark-") as folder:
            files = {kind: (Path(folder) / kind.__name__.lower()).open("wb") for kind in (Person, Auction, Bid)}
            for number, (event, at) in enumerate(zip(events, repeat(0) if arrived is None else arrived, strict=False)):
                files[type(event)].write(b'{"number":%d,"arrived":%d,%b\n' % (number, at, encode(event)[1:]))
            for kind, file in files.items():
                file.close()
                self._load(kind, file.name)
        self._database.execute(f"CREATE MACRO closing() AS TIMESTAMP '{closing:%Y-%m-%d %H:%M:%S}'")
        self._database.execute("CREATE TABLE side (key BIGINT, value VARCHAR)")
        self._database.executemany("INSERT INTO side VALUES (?, ?)", list(side_input().items()))

    def _load(self, kind: type[Event], file: str) -> None:
        names = {int: "BIGINT", str: "VARCHAR", datetime: "TIMESTAMP"}
        fields = {one.name: names[one.type] for one in msgspec.structs.fields(kind)}
        columns = ", ".join(
            f"{name}: '{sort}'" for name, sort in {"number": "BIGINT", "arrived": "BIGINT", **fields}.items()
        )
        self._database.execute(
            f"CREATE TABLE {kind.__name__.lower()} AS SELECT * REPLACE (make_timestamp(arrived * 1000) AS arrived) "
            f"FROM read_json(?, format = 'newline_delimited', columns = {{{columns}}})",
            [file],
        )

    def answer(self, query: str) -> Counter[Row]:
        """The rows that there must be, and how often."""
        return Counter(map(flat, self._database.execute(ASKED[query].sql).fetchall()))

    def differences(self, query: str, records: Iterable[tuple[Any, Any]]) -> tuple[Counter[Row], Counter[Row]]:
        """What is missing, and what is too much, in the results: keys and values, those of a key in their order."""
        must, did = self.answer(query), said(query, records)
        return must - did, did - must


def said(query: str, records: Iterable[tuple[Any, Any]]) -> Counter[Row]:
    """The rows that the results come to."""
    asked = ASKED[query]
    results = dict(records).items() if asked.last else records
    return Counter(row for key, value in results if value is not None for row in asked.rows(key, value))
