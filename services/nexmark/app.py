"""The queries as apps: `kstream run services.nexmark.app:q5`.

NEXMARK_PREFIX is what the names of topics and apps begin with: "nexmark", where it is not set.
"""

from __future__ import annotations

import os

import kstream
from services.nexmark.inputs import Nexmark
from services.nexmark.model import PREFIX
from services.nexmark.queries import QUERIES


def make_app(query: str, prefix: str = PREFIX) -> kstream.App:
    """A new app that does this query."""
    made = Nexmark(query, prefix)
    QUERIES[query](made)
    return made.app


def __getattr__(name: str) -> kstream.App:
    """The app of a query, made when it is first asked for."""
    if name not in QUERIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()[name] = make_app(name, os.environ.get("NEXMARK_PREFIX", PREFIX))
    return app


def __dir__() -> list[str]:
    return [*globals(), *QUERIES]
