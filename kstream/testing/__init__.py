"""Tests without a broker: an in-memory Kafka that speaks the protocols of `kstream.types`, and a manual clock.

`cluster` is what tests look into, `clients` what a worker gets; `log`, `groups`, `transactions` are the broker's
parts, `producer`, `consumer`, `fetch` the clients', `faults` the planned failures.
"""
