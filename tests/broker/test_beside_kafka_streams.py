"""The programs of Kafka Streams beside ours (benchmarks/streams.py) do the same: both write what DuckDB says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.jdk import jdk
from benchmarks.streams import BARS
from kstream.errors import BrokerError

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_write_what_sql_says(bootstrap_servers: str) -> None:
    try:
        jdk()
    except BrokerError as error:
        pytest.skip(str(error))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.streams", "--quick", "--bootstrap", bootstrap_servers],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=590,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith("q")] == list(BARS)
