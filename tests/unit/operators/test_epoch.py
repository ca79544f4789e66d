"""Results that would have a time which Kafka's client does not write: the record fails, while policies can help."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import kstream
from kstream.testing import TestDriver

MS = timedelta(milliseconds=1)


@pytest.mark.parametrize(
    ("windows", "emit"),
    [
        (lambda: kstream.Tumbling(MS), "close"),
        (lambda: kstream.Tumbling(seconds=1, offset=MS), "close"),
        (lambda: kstream.Hopping(seconds=1, every=timedelta(milliseconds=500), offset=MS), "close"),
        (lambda: kstream.Session(seconds=1), "close"),
        (lambda: kstream.Session(seconds=1), "commit"),
        (lambda: kstream.Session(gap_of=lambda _: MS), "commit"),
        (lambda: kstream.KafkaSliding(seconds=1), "close"),
        (lambda: kstream.KafkaSliding(seconds=1), "commit"),
    ],
)
def test_a_record_whose_window_ends_at_the_epoch_fails_itself(windows: Callable[[], Any], emit: Any) -> None:
    app = kstream.App("epoch", on_error=[kstream.DeadLetter()])
    source, made = app.topic("in", key=str, value=int, partitions=1), windows()
    keys: Any = kstream.WindowedSpan[str] if isinstance(made, kstream.Session) else kstream.Windowed[str]
    out = app.topic("out", key=keys, value=int | None)
    windowed: Any = app.stream(source).group_by_key().window(made, grace=0 * MS)
    windowed.count(name="n", emit=emit).to(out)
    with TestDriver(app, partitions=1) as driver:
        driver.cluster.append("in", b"zero", b"7", 0, None, 0)
        driver.send(source, 1, key="good", timestamp=5_000)
        driver.send(source, 1, key="last", timestamp=50_000)
        driver.commit()
        assert "good" in {record.key.key for record in driver.records(out)}
        (dead,) = driver.cluster.records("epoch-dead-letters")
        assert dead.value == b"7"
