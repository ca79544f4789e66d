"""How many cases Hypothesis generates: this is said here and nowhere else.

The profile decides, which HYPOTHESIS_PROFILE names: `random` for every run of a developer; `ci` for `.ci/run`, with the
same cases each time, so that what CI says of a change is of the change; `long` for `make test-long` and whoever has
time; `short` for the further Pythons of `make test-pythons`, where the interpreter is what is new and not the
interleaving.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

FEW: Final = 20
"""Of a property that says nothing else."""
OF_AN_OPERATOR: Final = 50
MANY: Final = 2000
SHORT: Final = 5

PROFILE: Final = os.environ.get("HYPOTHESIS_PROFILE", "random")

MANY_SECONDS: Final = 7200
"""Of a test with so many cases, on a machine that does other things too."""

Test = TypeVar("Test", bound=Callable[..., Any])


def load() -> None:
    """Makes the profiles and loads the one of this run.

    Hypothesis favours constants of the code that it finds loaded. But for the long form it is to find none: which they
    are hangs on what else ran in the process, and with them what is generated; and to find them takes seconds in each.
    """
    slow = [HealthCheck.too_slow]
    settings.register_profile("random", max_examples=FEW, deadline=None, suppress_health_check=slow)
    settings.register_profile("ci", settings.get_profile("random"), derandomize=True)
    settings.register_profile("short", settings.get_profile("ci"), max_examples=SHORT)
    settings.register_profile("long", max_examples=MANY, deadline=None, suppress_health_check=list(HealthCheck))
    settings.load_profile(PROFILE)
    if PROFILE != "long":
        providers.is_local_module_file = lambda path: False  # type: ignore[assignment]


def examples(few: int, **others: Any) -> settings:
    """The settings of a property that is to have another number of cases in `make test`. `others`: of `settings`."""
    count = {"long": MANY, "short": min(few, SHORT)}.get(PROFILE, few)
    return settings(max_examples=count, deadline=None, **others)


def cases(test: Test) -> Test:
    """A property of an operator (a kind of window, a join) that compares it with its definition, or with SQL: 50 cases
    in `make test`, 2,000 in `make test-long`, for each row of its parameters."""
    marked: Test = pytest.mark.cases(examples(OF_AN_OPERATOR)(test))
    return pytest.mark.timeout(MANY_SECONDS)(marked) if PROFILE == "long" else marked
