"""A worker as an OS process: how it is started and told what to do, and what it reports. `making.py` builds a worker on
the real Kafka, also for runs in this process.
"""
