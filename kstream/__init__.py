"""kstream: Kafka-native stream processing in Python. These are the public names."""

from kstream.app import App
from kstream.codecs import Codec
from kstream.dsl.agent import Agent
from kstream.dsl.stream import Grouped, Stream
from kstream.dsl.table import Table
from kstream.errors import KStreamError, ProcessingError
from kstream.operators.agent import AgentStream, Event
from kstream.runtime.context import Context, Worker
from kstream.specs.record import Record
from kstream.specs.topic import Topic

__all__ = [
    "Agent",
    "AgentStream",
    "App",
    "Codec",
    "Context",
    "Event",
    "Grouped",
    "KStreamError",
    "ProcessingError",
    "Record",
    "Stream",
    "Table",
    "Topic",
    "Worker",
]

__version__ = "0.1.0"
