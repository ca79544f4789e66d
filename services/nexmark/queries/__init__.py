"""The queries of Nexmark: a function each, which declares an app; what is asked is said in SQL in oracle.py.

`single` has those that look at one bid at a time, `joins`, `windows`, `days` and `latest` the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.nexmark.inputs import Nexmark
from services.nexmark.queries.days import q15, q16, q17
from services.nexmark.queries.joins import q3, q4, q9, q20
from services.nexmark.queries.latest import q18, q19
from services.nexmark.queries.single import q0, q1, q2, q13, q14, q22
from services.nexmark.queries.windows import q5, q7, q8, q11, q12

Query = Callable[[Nexmark], None]

QUERIES: Final[dict[str, Query]] = {
    query.__name__: query
    for query in (
        q0,
        q1,
        q2,
        q3,
        q4,
        q5,
        q7,
        q8,
        q9,
        q11,
        q12,
        q13,
        q14,
        q15,
        q16,
        q17,
        q18,
        q19,
        q20,
        q22,
    )
}
