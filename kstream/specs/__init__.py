"""Frozen declarations: what a topic, a store and a record is. No behaviour, no I/O."""
