"""Tests that need a real Kafka; `bootstrap_servers` (tests/conftest.py) provides it."""
