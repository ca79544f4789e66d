"""The check of expressions finds the slips it is there for."""

from __future__ import annotations

import pytest

from monitoring.expressions import problems


@pytest.mark.parametrize(
    "expression",
    [
        "rate(kstream_worker_backpressured_seconds_total[2m]) > 0.5",
        'sum by (namespace, job, app, le) (rate(kstream_checkpoint_duration_seconds_bucket{app=~"$app"}[2m]))',
        'kstream_tasks{state=~"restoring|failed", instance="a"}',
        "app:kstream_lag:sum > 60",
    ],
)
def test_what_is_right(expression: str) -> None:
    assert problems(expression, recorded={"app:kstream_lag:sum"}) == []


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("rate(kstream_worker_backpressure_seconds_total[2m])", "is not in the catalogue"),
        ("kstream_checkpoint_duration_seconds", "is not in the catalogue"),  # a histogram has no such series
        ('kstream_tasks{status="failed"}', "kstream_tasks has no label status"),
        ("sum by (topic) (kstream_tasks)", "no metric of the expression has the label topic"),
        ("app:kstream_lags:sum", "app:kstream_lags:sum is not recorded"),
    ],
)
def test_what_is_wrong(expression: str, problem: str) -> None:
    (found,) = problems(expression, recorded={"app:kstream_lag:sum"})
    assert problem in found
