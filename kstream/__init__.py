"""kstream: Kafka-native stream processing in Python. These are the public names."""

from kstream import interrupt

interrupt.end_quietly()  # before anything else is imported: that takes a tenth of a second

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kstream.app import App
from kstream.codecs import Codec, Windowed, WindowedSpan
from kstream.dsl.agent import Agent
from kstream.dsl.global_table import GlobalTable
from kstream.dsl.processor import Processor
from kstream.dsl.states import AggregatingState, ListState, MapState, ReducingState, ValueState
from kstream.dsl.stream import AggregateTable, Grouped, Stream
from kstream.dsl.table import Table
from kstream.dsl.tabular import DerivedTable, StreamTable
from kstream.dsl.uses import uses
from kstream.errors import KStreamError, NonRetryable, ProcessingError, Retryable
from kstream.observe.logs import BUSINESS, PERFORMANCE
from kstream.operators.async_agent import AgentStream, Event
from kstream.runtime.task.context import Context, Worker
from kstream.runtime.task.processing import ProcessorContext, TimerContext
from kstream.specs.record import Record
from kstream.specs.timers import Timer
from kstream.specs.topic import Topic

if TYPE_CHECKING:
    from kstream.pool import Pool
    from kstream.specs.counting import Counting
    from kstream.specs.kafka_sliding import KafkaSliding
    from kstream.specs.listener import Checkpoint
    from kstream.specs.local_days import LocalDays
    from kstream.specs.policy import DeadLetter, Fail, Retry, RetryLater, Skip
    from kstream.specs.restart import ExponentialDelay, FailureRate, FixedDelay, NoRestart
    from kstream.specs.sessions import OpenSession, Session
    from kstream.specs.sink import BatchingSink, SinkRecord
    from kstream.specs.sliding import Sliding
    from kstream.specs.snapshots import Snapshots
    from kstream.specs.ttl import TTL, FullSnapshot, Incremental, Sweep
    from kstream.specs.windows import Cumulating, Hopping, Tumbling
    from kstream.testing import TestDriver

__all__ = [
    "BUSINESS",
    "PERFORMANCE",
    "TTL",
    "Agent",
    "AgentStream",
    "AggregateTable",
    "AggregatingState",
    "App",
    "BatchingSink",
    "Checkpoint",
    "Codec",
    "Context",
    "Counting",
    "Cumulating",
    "DeadLetter",
    "DerivedTable",
    "Event",
    "ExponentialDelay",
    "Fail",
    "FailureRate",
    "FixedDelay",
    "FullSnapshot",
    "GlobalTable",
    "Grouped",
    "Hopping",
    "Incremental",
    "KStreamError",
    "KafkaSliding",
    "ListState",
    "LocalDays",
    "MapState",
    "NoRestart",
    "NonRetryable",
    "OpenSession",
    "Pool",
    "ProcessingError",
    "Processor",
    "ProcessorContext",
    "Record",
    "ReducingState",
    "Retry",
    "RetryLater",
    "Retryable",
    "Session",
    "SinkRecord",
    "Skip",
    "Sliding",
    "Snapshots",
    "Stream",
    "StreamTable",
    "Sweep",
    "Table",
    "TestDriver",
    "Timer",
    "TimerContext",
    "Topic",
    "Tumbling",
    "ValueState",
    "Windowed",
    "WindowedSpan",
    "Worker",
    "uses",
]

__version__ = "0.1.0"


_WHEN_WANTED = {
    "BatchingSink": "specs.sink",
    "Checkpoint": "specs.listener",
    "Counting": "specs.counting",
    "Cumulating": "specs.windows",
    "DeadLetter": "specs.policy",
    "ExponentialDelay": "specs.restart",
    "Fail": "specs.policy",
    "FailureRate": "specs.restart",
    "FixedDelay": "specs.restart",
    "FullSnapshot": "specs.ttl",
    "Hopping": "specs.windows",
    "Incremental": "specs.ttl",
    "KafkaSliding": "specs.kafka_sliding",
    "LocalDays": "specs.local_days",
    "NoRestart": "specs.restart",
    "OpenSession": "specs.sessions",
    "Pool": "pool",
    "Retry": "specs.policy",
    "RetryLater": "specs.policy",
    "Session": "specs.sessions",
    "SinkRecord": "specs.sink",
    "Skip": "specs.policy",
    "Sliding": "specs.sliding",
    "Snapshots": "specs.snapshots",
    "Sweep": "specs.ttl",
    "TTL": "specs.ttl",
    "TestDriver": "testing",
    "Tumbling": "specs.windows",
}
"""Modules that most apps do without: they are imported when the name is wanted."""


def __getattr__(name: str) -> Any:
    if name in _WHEN_WANTED:
        return getattr(import_module(f"kstream.{_WHEN_WANTED[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
