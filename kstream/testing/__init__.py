"""Tests without a broker: the TestDriver runs an app's real plan, tasks, checkpoint and restore on an in-memory Kafka.

`cluster` is that Kafka, `clients` what a worker talks to it with, `clock` a clock that a test moves, `driver` the
TestDriver itself.
"""

from kstream.testing.clock import ManualClock
from kstream.testing.cluster import MemoryCluster
from kstream.testing.driver import TestDriver

__all__ = ["ManualClock", "MemoryCluster", "TestDriver"]
