"""A service that says how long each value is, for test_bombs.py: workers load it as `broker.bombed_service:app`."""

from __future__ import annotations

import os
from typing import Any

import kstream


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    kind: Any = {"bytes": bytes, "json": dict, "any": Any, "int": int, "text": str}[
        os.environ.get("KSTREAM_TEST_KIND", "bytes")
    ]
    bombs = app.topic(f"{name}.bombs", key=str, value=kind, partitions=2)
    app.stream(bombs).map(lambda value: len(str(value)), value=int).to(
        app.topic(f"{name}.sizes", key=str, value=int, partitions=2)
    )
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "bombed"))
