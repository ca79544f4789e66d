"""Snapshots of task state: where they lie (storage.py, objects.py), what one is (manifest.py), how its files travel
(transfer.py), and what becomes of those that nobody needs any more (collector/).

Snapshots are copies of what Kafka has: losing them costs time, never state. Nothing in here knows Kafka, workers or
tasks; when a snapshot is taken, and when one is restored, is decided in runtime/worker/.
"""
