from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unit.runtime.worker.snapshots.support import Snapped

Make = Callable[..., Snapped]


@pytest.fixture
def snapped(tmp_path: Path) -> Iterator[Make]:
    made: list[Snapped] = []

    def make(backend: str = "rocksdb", **settings: Any) -> Snapped:
        made.append(Snapped(tmp_path, backend, **settings))
        return made[-1]

    yield make
    for one in made:
        one.close()
