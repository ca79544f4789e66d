"""A small service with a table, a repartition topic and an output, for a broker that asks who is there: workers load it
as `security.guarded_service:app`."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import kstream


def counted(word: str) -> str:
    if word == "boom":
        raise ValueError("this word is not counted")
    return word


def make_app(name: str) -> kstream.App:
    app = kstream.App(name)
    words = app.topic(f"{name}.words", key=str, value=str, partitions=1)
    counts = app.topic(f"{name}.counts", key=str, value=int, partitions=1)
    app.stream(words).group_by(counted, key=str, name="by-word").count(name="seen").to(counts)
    return app


app = make_app(os.environ.get("KSTREAM_TEST_APP", "guarded"))


def token() -> tuple[str, float]:
    """An unsigned one, which the broker of the tests takes. Each call leaves a line in a file."""
    now = time.time()
    ends = now + float(os.environ.get("KSTREAM_TEST_TOKEN_SECONDS", "3600"))
    user = os.environ.get("KSTREAM_TEST_TOKEN_USER", "alice")
    with Path(os.environ["KSTREAM_TEST_TOKENS"]).open("a") as calls:
        calls.write(f"{os.getpid()}\n")
    if user == "nobody" or Path(os.environ.get("KSTREAM_TEST_TOKENS_REFUSED", "/nowhere/refused")).exists():
        raise PermissionError("the identity provider says no")
    made = f"{_part(alg='none')}.{_part(sub=user, iat=now, exp=ends)}."
    if given := os.environ.get("KSTREAM_TEST_TOKENS_GIVEN"):
        with Path(given).open("a") as tokens:
            tokens.write(f"{made}\n")
    return made, ends


def _part(**claims: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
