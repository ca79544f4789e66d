"""kstream: stream processing on Apache Kafka."""
