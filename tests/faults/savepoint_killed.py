"""The `kstream` command, killed with SIGKILL by its own hand around a step of making or restoring a savepoint,
of moving an app to another number of partitions, of an export or a reset.

    python -m faults.savepoint_killed STEP:before|after:N ARGUMENTS...

It dies around the N-th call of the step.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kstream.cli import main
from kstream.runtime.cluster import filling, gathering, replacing, saving
from kstream.runtime.cluster.control import Control
from kstream.runtime.cluster.replacing import EntryWriter
from kstream.runtime.cluster.saving import Saving
from kstream.runtime.kafka.admin import KafkaAdmin

PLACES: dict[str, tuple[Any, str]] = {
    "say": (Control, "_write"),  # hold, capture, resume; of a restore: its note, the end of it
    "check": (Saving, "_check_moment"),
    "stored": (Saving, "_savepoint"),
    "write": (saving, "create_savepoint"),
    "gathered": (gathering, "create_savepoint"),
    "grow": (KafkaAdmin, "add_partitions"),
    "group": (KafkaAdmin, "_delete_group"),
    "delete": (KafkaAdmin, "delete_topics"),
    "make": (replacing, "prepare_topics"),
    "entry": (EntryWriter, "write"),
    "entries": (EntryWriter, "finish"),
    "types": (replacing, "keep_types"),
    "offsets": (replacing, "_commit_offsets"),
    "table": (filling, "write_table"),  # of an export: a file for each partition, and the renames at the end
    "rename": (Path, "rename"),
    "state": (shutil, "rmtree"),  # of a reset: a directory of local state
    "begin": (KafkaAdmin, "set_committed"),
}


def install(order: str) -> None:
    step, when, count = order.split(":")
    owner, name = PLACES[step]
    function: Callable[..., Any] = getattr(owner, name)
    left = int(count)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments, **named)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, wrapped)


if __name__ == "__main__":
    install(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
