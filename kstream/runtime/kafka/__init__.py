"""Kafka's clients behind the protocols of `kstream.types`: the only importer of confluent_kafka.

`options` says how the clients are configured, `consumer`, `producer` and `admin` adapt one client each, and `problems`
turns librdkafka's errors into ours.
"""

from kstream.runtime.kafka.clients import KafkaClients, librdkafka_version
from kstream.runtime.kafka.options import KafkaOptions, largest_sent, options_from

__all__ = ["KafkaClients", "KafkaOptions", "largest_sent", "librdkafka_version", "options_from"]
