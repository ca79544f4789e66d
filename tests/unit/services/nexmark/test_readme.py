"""The page that shows the queries."""

from __future__ import annotations

import inspect

import pytest

from services.nexmark import readme
from services.nexmark.oracle import ASKED
from services.nexmark.queries import QUERIES


def test_it_shows_the_queries_as_they_are() -> None:
    assert readme.README.read_text() == readme.written(), "run python -m services.nexmark.readme"


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_short_and_has_its_sql(query: str) -> None:
    assert query in ASKED
    assert len(inspect.getsource(QUERIES[query]).splitlines()) <= 25
