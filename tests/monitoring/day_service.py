"""The service of test_day.py, in its versions: `monitoring.day_service:app`. KSTREAM_TEST_RELEASE has the number of the
version, and `+policy` behind it where it sets aside what fails."""

from __future__ import annotations

import os
from typing import Any

import kstream

NAME = os.environ.get("KSTREAM_TEST_APP", "day")
RELEASE = os.environ.get("KSTREAM_TEST_RELEASE", "1")
PARTITIONS = 4

app = kstream.App(NAME, on_error=[kstream.DeadLetter()] if RELEASE.endswith("+policy") else [])
orders = app.topic(f"{NAME}.orders", key=str, value=dict[str, Any], partitions=PARTITIONS)
totals = app.topic(f"{NAME}.totals", key=str, value=dict[str, Any], partitions=PARTITIONS)
customers = app.table("customers", key=str, value=dict[str, Any], default=dict)


@app.agent(orders, to=totals)
def total(order: dict[str, Any], ctx: kstream.Context[str]) -> dict[str, Any]:
    """How many orders a customer has, and what they come to; what was said last is kept with it."""
    if "amount" not in order:
        raise ValueError("an order has no amount")
    before = customers[ctx.key]
    known = {
        "orders": before.get("orders", 0) + 1,
        "amount": before.get("amount", 0) + order["amount"],
        "note": order["note"],
    }
    customers[ctx.key] = known
    return {"orders": known["orders"], "amount": known["amount"], "release": RELEASE.partition("+")[0]}
