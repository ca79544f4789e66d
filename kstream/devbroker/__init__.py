"""The development broker: a real Apache Kafka (KRaft, one node) as a child process, with nothing to install by hand."""
