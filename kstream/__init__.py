"""kstream: Kafka-native stream processing in Python. These are the public names."""

from typing import TYPE_CHECKING, Any

from kstream.app import App
from kstream.codecs import Codec
from kstream.dsl.agent import Agent
from kstream.dsl.stream import AggregateTable, Grouped, Stream
from kstream.dsl.table import Table
from kstream.errors import KStreamError, ProcessingError
from kstream.observe.logs import BUSINESS, PERFORMANCE
from kstream.operators.async_agent import AgentStream, Event
from kstream.pool import Pool
from kstream.runtime.task.context import Context, Worker
from kstream.specs.policy import DeadLetter, Fail, Skip
from kstream.specs.record import Record
from kstream.specs.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart
from kstream.specs.sink import BatchingSink, SinkRecord
from kstream.specs.topic import Topic

if TYPE_CHECKING:
    from kstream.testing import TestDriver

__all__ = [
    "BUSINESS",
    "PERFORMANCE",
    "Agent",
    "AgentStream",
    "AggregateTable",
    "App",
    "BatchingSink",
    "Codec",
    "Context",
    "DeadLetter",
    "Event",
    "ExponentialDelay",
    "Fail",
    "FailureRate",
    "FixedDelay",
    "Grouped",
    "KStreamError",
    "NoRestart",
    "Pool",
    "ProcessingError",
    "Record",
    "SinkRecord",
    "Skip",
    "Stream",
    "Table",
    "TestDriver",
    "Topic",
    "Worker",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The TestDriver is imported when it is wanted: services do without it."""
    if name == "TestDriver":
        from kstream.testing import TestDriver

        return TestDriver
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
