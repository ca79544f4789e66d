"""How many instances autoscaling must leave alone (`kstream.runtime.view.held`)."""

from __future__ import annotations

from kstream.observe.status import TaskStatus
from kstream.runtime.view.held import held


def task(name: str, state: str) -> TaskStatus:
    return TaskStatus(name, "0", state)


RUNS = [task("orders/0", "running"), task("heavy@cpu/0", "running")]


def test_nobody_while_nothing_is_restored() -> None:
    assert held(["default", "cpu"], [(["default", "cpu"], RUNS), (["default"], [])]) == {"default": 0, "cpu": 0}
    assert held(["default"], []) == {"default": 0}, "there is a number always"


def test_all_of_a_group_while_a_task_of_it_is_restored_anywhere() -> None:
    """Those without tasks too: the next ones may be theirs. Two workers of an instance are one instance."""
    instances = [
        (["default", "default", "cpu"], RUNS),
        (["default"], [task("orders/1", "restoring")]),
        (["cpu"], []),
    ]
    assert held(["default", "cpu"], instances) == {"default": 2, "cpu": 0}


def test_one_that_waits_for_its_restore_counts() -> None:
    assert held(["default"], [(["default"], [task("orders/0", "created")])]) == {"default": 1}


def test_where_a_later_version_says_what_this_one_cannot_read_all_stay() -> None:
    """It may restore, for whichever group. While a new version is rolled out an older pod may be who is asked."""
    instances = [(["default", "cpu"], RUNS), (["default"], [])]
    assert held(["default", "cpu"], instances, unread=2) == {"default": 4, "cpu": 3}


def test_one_that_has_failed_does_not() -> None:
    assert held(["default"], [(["default"], [task("orders/0", "failed")])]) == {"default": 0}
