"""services/payments on a real Kafka, while its API fails and its workers are killed: each order is paid or set aside,
never both; and paid, all of them, when the API is mended and the dead letters are replayed. Read with plain clients."""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from kstream.cli import main
from kstream.config import Settings
from services.payments.api import PaymentApi, declined
from services.payments.app import app
from support.kafka import SECONDS, Reader, Row, read, write
from support.running import Instance, kill, prepare
from support.running import until as wait_until
from support.scenario import QUICK

ORDERS, PAYMENTS, LETTERS = "orders", "payments", "payments-dead-letters"
COUNT, CUSTOMERS = 2_000, 200
SETTINGS = {**QUICK, "commit_interval": 0.5}
"""So that a kill finds payments that are not committed."""
BAD = [number for number in range(COUNT) if declined(number)]
GOOD = [number for number in range(COUNT) if not declined(number)]


def numbers(rows: Iterable[Row], field: str) -> list[int]:
    return [json.loads(row.value or b"")[field] for row in rows]


def by_key(rows: Iterable[Row], field: str) -> dict[bytes, list[int]]:
    """The orders of each customer, in the order in which they lie in their partition."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.partition, row.offset)):
        found[row.key].append(json.loads(row.value or b"")[field])
    return found


class Shop:
    """The service, its orders, and the API it asks."""

    def __init__(self, servers: str, directory: Path, api: PaymentApi) -> None:
        self.servers, self.api = servers, api
        settings = Settings(bootstrap_servers=servers, state_dir=str(directory), instance="a", **SETTINGS)
        partitions = prepare(app, settings)
        now = round(time.time() * 1000)
        draw = random.Random(2013)
        customers = [f"c{draw.randrange(CUSTOMERS)}" for _ in range(COUNT)]
        orders = [{"number": n, "customer": name, "amount": 100 + n % 37} for n, name in enumerate(customers)]
        write(servers, ORDERS, ((str(one["customer"]), json.dumps(one).encode(), now) for one in orders))
        self.output = Reader(servers, [PAYMENTS, LETTERS])
        self.instance = Instance("services.payments.app:app", "payments", "a", settings, partitions, workers=2)
        self.killed = 0

    def poll(self) -> None:
        self.instance.poll()
        self.output.poll(0.0)

    def until(self, payments: int, letters: int) -> None:
        """Waits until so many are committed, at least."""
        rows = self.output.rows
        wait_until(
            lambda: len(rows[PAYMENTS]) >= payments and len(rows[LETTERS]) >= letters,
            f"{payments} payments and {letters} dead letters",
            each=self.poll,
        )

    def kill(self, *workers: int, at: int) -> None:
        """SIGKILL when so many orders are charged: by the API's count, for what is committed is seen right after a
        commit, when there is little to lose."""
        wait_until(
            lambda: len(self.api.answers) >= at and len(self.instance.pids) == 2, f"{at} charges", each=self.poll
        )
        assert len(self.output.rows[PAYMENTS]) < len(GOOD), "the workers were through before they were killed"
        for pid in [self.instance.pids[worker] for worker in workers]:
            kill(pid)
        self.killed += len(workers)
        wait_until(lambda: self.instance.restarts == self.killed, "the workers to be started again", each=self.poll)

    def close(self) -> None:
        self.output.close()
        self.instance.kill()


@pytest.fixture
def shop(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})

    def topics() -> list[str]:
        return [name for name in admin.list_topics(timeout=SECONDS).topics if name == ORDERS or PAYMENTS in name]

    assert not topics(), "left by an earlier run that was killed: delete them"
    monkeypatch.setattr(sys, "path", sys.path[:])
    with PaymentApi() as api:
        monkeypatch.setenv("PAYMENTS_API", api.url)
        shop = Shop(bootstrap_servers, tmp_path, api)
        yield shop
        shop.close()
    for deleted in admin.delete_topics(topics(), operation_timeout=SECONDS).values():
        deleted.result(SECONDS)


def charged(shop: Shop, payments: list[Row], wanted: list[int]) -> None:
    """The API charged these orders, each once, and each payment has the name of that charge."""
    api = shop.api
    assert sorted(order.number for order in api.charges.values()) == wanted
    assert all(len(set(names)) == 1 for names in api.answers.values())
    assert {(order.number, order.amount, name) for name, order in api.charges.items()} == {
        (row["order"], row["amount"], row["charge"]) for row in (json.loads(row.value or b"") for row in payments)
    }


def dlq(shop: Shop, capsys: pytest.CaptureFixture[str], command: str) -> str:
    capsys.readouterr()
    status = main(["dlq", command, "services.payments.app:app", "--bootstrap-servers", shop.servers])
    out, err = capsys.readouterr()
    assert status == 0, (out, err)
    return str(out)


def test_each_order_is_paid_or_set_aside_and_all_are_paid_in_the_end(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    shop.kill(0, at=len(GOOD) // 5)
    shop.kill(1, at=len(GOOD) // 2)
    shop.kill(0, 1, at=len(GOOD) * 3 // 4)
    shop.until(len(GOOD), len(BAD))

    rows = read(shop.servers, [ORDERS, PAYMENTS, LETTERS])
    payments, letters = rows[PAYMENTS], rows[LETTERS]
    assert Counter(numbers(payments, "order")) == Counter(GOOD)
    assert Counter(numbers(letters, "number")) == Counter(BAD)
    originals = {(row.key, row.value, row.timestamp) for row in rows[ORDERS]}
    assert {(row.key, row.value, row.timestamp) for row in letters} <= originals
    in_order = by_key(rows[ORDERS], "number")
    for key, paid in by_key(payments, "order").items():
        assert paid == [number for number in in_order[key] if not declined(number)], key
    charged(shop, payments, GOOD)
    assert sum(len(names) > 1 for names in shop.api.answers.values()) > 10, "the kills undid next to nothing"
    assert all(shop.api.asked[number] > 1 for number in GOOD if number % 10 == 3)

    shop.api.mended = True
    assert f"replayed {len(BAD)} dead letters to orders" in dlq(shop, capsys, "replay")
    shop.until(COUNT, len(BAD))
    shop.instance.stop()
    rows = read(shop.servers, [PAYMENTS, LETTERS])
    assert Counter(numbers(rows[PAYMENTS], "order")) == Counter(range(COUNT))
    assert len(rows[LETTERS]) == len(BAD), "none of them failed again"
    for key, paid in by_key(rows[PAYMENTS], "order").items():
        again = [number for number in in_order[key] if declined(number)]
        assert paid == [number for number in in_order[key] if not declined(number)] + again, key
    charged(shop, rows[PAYMENTS], list(range(COUNT)))
    assert "nothing to do" in dlq(shop, capsys, "replay")
    assert "0 dead letters" in dlq(shop, capsys, "list")
    assert shop.instance.restarts == shop.killed == 4
