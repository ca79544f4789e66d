"""Runs a topology: instance, worker, task, checkpoint, restore, and the only place that speaks to Kafka."""
