"""Workers are killed while agents wait, while a record at fault is looked for, and between its tries: in the end, when
what failed is mended, everything is there exactly once."""

from __future__ import annotations

import pytest

from support.scenario import Scenarios

PHASE = 600


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        ("", "waiting:before:4"),
        ("", "commit_transaction:before:6"),
        ("", "commit_transaction:after:6"),
        ("raise", "search:before:3"),
        ("raise", "failed:after:2"),
        ("refuse", "search:before:4"),
        ("refuse", "search:after:2"),
        ("refuse", "failed:before:1"),
    ],
)
def test_killed_among_waits_and_failures(scenario: Scenarios, how: str, fault: str) -> None:
    service = scenario(partitions=2)
    service.setenv("KSTREAM_TEST_WAIT", "0.4")
    if how:
        service.poison(how)
    service.order(fault)
    service.feed(PHASE)
    service.arm()
    instance = service.start(workers=2)
    service.until(lambda: service.struck, "the fault to strike")
    service.feed(PHASE)
    if how:
        service.until(lambda: instance.tasks("failed"), "a task to stop again")
        service.mend()
    service.processed()
    service.settled()
    assert instance.restarts == 1
    service.stop()
    service.check()


def test_instances_come_and_go_while_agents_wait(scenario: Scenarios) -> None:
    """What was waited for when the partitions left is done by who has them next."""
    service = scenario(partitions=6, transaction_timeout=3)
    service.setenv("KSTREAM_TEST_WAIT", "1.5")  # longer than a partition that leaves is waited for
    first = service.start("a")
    service.feed_until(lambda: len(first.tasks()) == 12, "the first to have everything", chunk=20)
    second = service.start("b")
    service.feed_until(lambda: len(first.tasks()) == len(second.tasks()) == 6, "the tasks to be shared", chunk=20)
    service.feed(PHASE)
    second.stop()
    service.feed_until(lambda: len(first.tasks()) == 12, "the first to have everything again", chunk=20)
    service.processed(120)
    service.settled()
    assert first.restarts + second.restarts == 0
    service.stop()
    service.check()
