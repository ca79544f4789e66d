"""One loop over tasks: what Kafka has, what the tasks make of it, the transaction, the checkpoint, rebalances,
recovery, restore, housekeeping. It runs on one thread and knows nothing of processes.
"""
