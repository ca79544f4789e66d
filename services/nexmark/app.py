"""The queries as apps: `kstream run services.nexmark.app:q5`."""

from __future__ import annotations

import kstream
from services.nexmark.inputs import Nexmark
from services.nexmark.queries import QUERIES


def make_app(query: str) -> kstream.App:
    """A new app that does this query."""
    made = Nexmark(query)
    QUERIES[query](made)
    return made.app


def __getattr__(name: str) -> kstream.App:
    """The app of a query, made when it is first asked for."""
    if name not in QUERIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()[name] = make_app(name)
    return app


def __dir__() -> list[str]:
    return [*globals(), *QUERIES]
