"""The development broker: a real Apache Kafka (KRaft, one node) as a child process, with nothing to install by hand.

`broker` starts, watches and stops it; `guard` is the small process between us and the JVM, so that the broker dies with
us whatever kills us; `jars` and `java` get what it runs on; `server` writes its settings; `wire` asks it for metadata.
"""

from kstream.devbroker.broker import DevBroker, default_data_dir
from kstream.devbroker.jars import KAFKA_VERSION, download_size, install

__all__ = ["KAFKA_VERSION", "DevBroker", "default_data_dir", "download_size", "install"]
