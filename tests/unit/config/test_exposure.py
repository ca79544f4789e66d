"""What settings leave open (`kstream.config.exposure`)."""

from __future__ import annotations

import pytest

from kstream.config import Settings
from kstream.config.exposure import exposures, is_local

TLS = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN"}


def words(**settings: object) -> list[str]:
    found = exposures(Settings(**settings))  # type: ignore[arg-type]
    assert all("\n" not in str(one) for one in found)
    return [str(one) for one in found]


@pytest.mark.parametrize("servers", ["localhost:9092", "127.0.0.1:9092,[::1]:9092", "PLAINTEXT://127.3.2.1:1"])
def test_local_brokers_need_no_tls(servers: str) -> None:
    assert words(bootstrap_servers=servers) == []


def test_others_do() -> None:
    (line,) = words(bootstrap_servers="127.0.0.1:1,kafka:9092,10.0.0.1:9092")
    assert line.startswith("Kafka at kafka:9092, 10.0.0.1:9092 is spoken to without TLS, so records can be read")
    (line,) = words(bootstrap_servers="kafka:1", kafka={**TLS, "security.protocol": "sasl_plaintext"})
    assert "passwords and records" in line and "to SASL_SSL" in line
    assert words(bootstrap_servers="kafka:1", kafka=TLS) == []


def test_one_kind_of_clients_may_be_open_alone() -> None:
    assert words(bootstrap_servers="kafka:1", kafka={"consumer.security.protocol": "SSL"})
    assert words(
        bootstrap_servers="kafka:1", kafka={"security.protocol": "SSL", "admin.security.protocol": "plaintext"}
    )


@pytest.mark.parametrize("prefix", ["", "consumer."])
def test_checks_that_are_switched_off(prefix: str) -> None:
    (line,) = words(kafka={**TLS, f"{prefix}enable.ssl.certificate.verification": "False"})
    assert line.startswith("the certificates of brokers are not checked")
    (line,) = words(kafka={**TLS, f"{prefix}ssl.endpoint.identification.algorithm": "none"})
    assert line.startswith("the names in the certificates of brokers are not checked")
    assert words(kafka={**TLS, f"{prefix}ssl.endpoint.identification.algorithm": "https"}) == []


def test_a_login_that_is_not_used() -> None:
    (line,) = words(kafka={"sasl.password": "s3cret"})
    assert line.startswith("nobody logs in to Kafka") and "PLAINTEXT" in line
    assert "s3cret" not in line


def test_the_page() -> None:
    assert words(web_host="localhost") == []
    (line,) = words(web_host="0.0.0.0")
    assert line.startswith("the status page is served on 0.0.0.0 without TLS")
    for more in (
        {"web": False},
        {"workers": 0},
        {"web_tls_certificate": "c.pem"},
        {"web_url": "https://x.example.com"},
    ):
        assert words(web_host="0.0.0.0", **more) == []
    assert words(web_host="0.0.0.0", web_url="http://x.example.com")


def test_what_is_local() -> None:
    assert all(map(is_local, ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "::1", "[::1]"]))
    assert not any(map(is_local, ["0.0.0.0", "::", "", "kafka", "10.0.0.1", "localhost.example.com"]))
