"""A service whose records fail, are set aside, and come back: workers load it as `faults.delaying_service:app`.

Of seven records one fails always, and one until the file `mended` is there.
"""

from __future__ import annotations

import os
from pathlib import Path

import kstream
from faults import injection

DELAYS = [0.5, 5]


def lasting(number: int) -> bool:
    return number % 7 == 3


def passing(number: int) -> bool:
    return number % 7 == 5


def make_app(name: str) -> kstream.App:
    app = kstream.App(name, on_error=[kstream.RetryLater(DELAYS), kstream.DeadLetter()])
    orders = app.topic(f"{name}.orders", key=str, value=int, partitions=2)
    paid = app.topic(f"{name}.paid", key=str, value=int, partitions=2)
    mended = Path(os.environ.get("KSTREAM_TEST_DIR", ""), "mended")
    seen = app.table("seen", key=str, value=int, default=0)

    @app.agent(orders, to=paid)
    def pay(number: int, ctx: kstream.Context[str]) -> int:
        seen[ctx.key] += 1
        if lasting(number) or (passing(number) and not mended.exists()):
            raise ConnectionError(number)
        return seen[ctx.key]

    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "delaying"))
injection.install()
