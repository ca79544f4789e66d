"""Runs a topology, in rooms that import one way: instance | view > process > worker > task > cluster > kafka.

A record is processed in `task/`, fed and committed in `worker/`. `process/` makes a worker an OS process, `instance/`
keeps the workers of one instance running, `view/` says what an instance is like from outside. `cluster/` is what is
made, checked and said in Kafka beside the data; `kafka/` is the only place that speaks to the client libraries.
"""
