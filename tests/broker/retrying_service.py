"""A service whose record number 13 fails, for test_retrying.py: workers load it as `broker.retrying_service:app`.

Of each input something else becomes of it. All tasks are in one worker.
"""

from __future__ import annotations

import os

import kstream

BAD = 13


def passes_on(n: int) -> int:
    if n == BAD:
        raise ValueError("thirteen")
    return n


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    policies: dict[str, list[kstream.Retry | kstream.RetryLater | kstream.DeadLetter]] = {
        "waits": [kstream.Retry(5, base=300.0, max=300.0)],
        "denied": [kstream.DeadLetter(f"{name}.dead-denied")],
        "small": [kstream.DeadLetter(f"{name}.dead-small")],
        "later": [kstream.RetryLater([300, 900])],
        "beside": [],
    }
    for case, on_error in policies.items():
        source = app.topic(f"{name}.{case}", key=str, value=int, partitions=1)
        out = app.topic(f"{name}.{case}-out", key=str, value=int, partitions=1)
        app.stream(source, on_error=on_error).map(passes_on, value=int).to(out)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "retrying"))
