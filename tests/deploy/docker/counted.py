"""Runs inside a container: counts what is committed in the examples' topics, and prints it as JSON.

flights, alerts: records in the topics. updates: figures that came out, one for each of these records when each was
counted exactly once. sums: what the last figures of all carriers, or airports, add up to.
"""

import json
import os

from confluent_kafka import Consumer, KafkaError, TopicPartition


def values(topic):
    """Each record's (key, value), committed ones only, to the topic's end as of now."""
    consumer = Consumer(
        {
            "bootstrap.servers": os.environ["KSTREAM_BOOTSTRAP_SERVERS"],
            "group.id": "counted",  # never joined
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    left = set(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, number, 0) for number in left])
    while left:
        message = consumer.poll(30)
        assert message is not None, f"nothing from {topic} for 30 s"
        if message.error() is None:
            yield message.key(), json.loads(message.value())
        elif message.error().code() == KafkaError._PARTITION_EOF:
            left.discard(message.partition())
        else:
            raise SystemExit(f"{topic}: {message.error()}")
    consumer.close()


def updates(topic, field):
    found = list(values(topic))
    return len(found), sum(value[field] for value in dict(found).values())


carrier_updates, carrier_sum = updates("flights-carriers", "flights")
airport_updates, airport_sum = updates("airports-alerts", "alerts")
print(
    json.dumps(
        {
            "flights": sum(1 for _ in values("flights")),
            "carrier_updates": carrier_updates,
            "carrier_sum": carrier_sum,
            "alerts": sum(1 for _ in values("flights-alerts")),
            "airport_updates": airport_updates,
            "airport_sum": airport_sum,
        }
    )
)
