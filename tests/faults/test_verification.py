"""An outside verifier, after Kafka Streams' smoke test and exactly-once test: one app with most kinds of state, run as
real processes, which are killed, frozen and restarted by seed, and brokers with them, while input is written in
transactions that are committed, aborted and left open. At the end plain clients compare all that was committed with
plain Python (tests/support/verification.py): no update of any key is missing or there twice.

`make verify SEEDS="1 2 3"` does such rounds on a cluster of three brokers.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.verifying import Round
from support.cluster import three_brokers

SEEDS = [int(word) for word in os.environ.get("KSTREAM_TEST_SEEDS", "1").split()]
RATE = 250
"""Readings a second."""
READINGS = 36_000
"""Of which about a seventh is in transactions that are aborted."""

KINDS = [
    "worker", "worker", "worker", "worker", "both", "instance", "instance", "disk", "supervisor", "frozen", "rolling",
    "broker", "broker", "broker",
]  # fmt: skip
"""See the methods of `Fleet`."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_round(seed: int, tmp_path: Path) -> None:
    with three_brokers(tmp_path / "brokers") as brokers:
        servers = ",".join(broker.bootstrap_servers for broker in brokers)
        play(Round(servers, tmp_path, seed, RATE, 1, brokers), KINDS, READINGS)


@pytest.mark.more
@pytest.mark.timeout(900)
def test_a_short_round(bootstrap_servers: str, tmp_path: Path) -> None:
    """On the session's broker, which stays."""
    play(Round(bootstrap_servers, tmp_path, 9, RATE, 0), ["worker", "instance", "worker", "rolling"], 4_000)


def play(played: Round, kinds: list[str], least: int) -> None:
    try:
        wrong = played.run(kinds, least)
    finally:
        print(played.told())
        played.close()
    assert not wrong, "\n".join((played.told(), *wrong))
