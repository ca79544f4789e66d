"""Payments: orders are charged at an API outside Kafka that fails now and then: `app` is the service, `api` the API."""
