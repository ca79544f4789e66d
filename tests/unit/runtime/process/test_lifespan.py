"""What goes wrong in a lifespan is one error, with its cause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import LifespanFailed
from kstream.runtime.process.lifespan import watched
from unit.runtime.harness import Counting, Fleet


def fleet_of(directory: Path, lifespan: Any) -> Fleet:
    counting = Counting()
    counting.app.lifespan_function = watched(lifespan)
    return Fleet(counting.app, directory, partitions=1)


@pytest.mark.parametrize(
    ("error", "text"), [(ValueError("no\nservice"), "ValueError: no service"), (SystemExit(3), "SystemExit: 3")]
)
def test_before_the_yield(tmp_path: Path, error: BaseException, text: str) -> None:
    async def lifespan(worker: kstream.Worker) -> AsyncIterator[None]:
        raise error
        yield

    fleet = fleet_of(tmp_path, lifespan)
    with pytest.raises(LifespanFailed, match="the lifespan failed before its yield: ") as caught:
        fleet.start("a")
    assert caught.value.__cause__ is error and "\n" not in str(caught.value)
    assert f"test_lifespan.py:{error.__traceback__.tb_next.tb_lineno}: " in str(caught.value)  # type: ignore[union-attr]
    assert str(caught.value).endswith(text)


def test_after_the_yield(tmp_path: Path) -> None:
    async def lifespan(worker: kstream.Worker) -> AsyncIterator[None]:
        worker.state.client = "ready"
        yield
        raise ConnectionError("cannot close")

    fleet = fleet_of(tmp_path, lifespan)
    worker = fleet.start("a")
    assert worker.worker.state.client == "ready"
    with pytest.raises(LifespanFailed, match=r"after its yield: .*ConnectionError: cannot close"):
        worker.close()


def test_without_a_yield(tmp_path: Path) -> None:
    async def lifespan(worker: kstream.Worker) -> AsyncIterator[None]:
        if worker.index:
            yield

    with pytest.raises(LifespanFailed, match="the lifespan ended without a yield"):
        fleet_of(tmp_path, lifespan).start("a")


def test_one_that_goes_well_releases_what_it_prepared(tmp_path: Path) -> None:
    said = []

    async def lifespan(worker: kstream.Worker) -> AsyncIterator[None]:
        said.append("prepared")
        yield
        said.append("released")

    fleet = fleet_of(tmp_path, lifespan)
    fleet.start("a")
    assert said == ["prepared"]
    fleet.close()
    assert said == ["prepared", "released"]
