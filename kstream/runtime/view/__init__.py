"""What an instance says of itself: status, health, rates, curves, the drawn topology, made from reports only; and its
app's dead letters, read from Kafka when somebody looks. Nothing here can end or slow a worker.
"""
