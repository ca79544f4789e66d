"""What an instance says of itself: status, health, rates, curves, the drawn topology. Made from reports only:
nothing here can end or slow a worker.
"""
