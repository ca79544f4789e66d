"""A small service that sets records aside and has dead letters, for a broker that asks who is there: workers load it as
`security.lettered_service:app`."""

from __future__ import annotations

import os

import kstream


def passed_on(word: str) -> str:
    if word == "boom":
        raise ValueError("this word is not passed on")
    return word


def make_app(name: str) -> kstream.App:
    """A word that fails is tried again after a second, and is a dead letter then."""
    app = kstream.App(name)
    words = app.topic(f"{name}.words", key=str, value=str, partitions=1)
    counts = app.topic(f"{name}.counts", key=str, value=str, partitions=1)
    policy = [kstream.RetryLater([1]), kstream.DeadLetter(f"{name}.letters")]
    app.stream(words, on_error=policy).map(passed_on, value=str).to(counts)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "lettered"))
