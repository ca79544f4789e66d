"""librdkafka's settings as kafka-python's (`kstream.runtime.kafka.members`)."""

from __future__ import annotations

import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from kstream.errors import LeavingFailed
from kstream.runtime.kafka import KafkaOptions
from kstream.runtime.kafka.members import connection


def mapped(servers: str = "one:9092", **raw: str) -> dict[str, Any]:
    """Keys with `__` for dots."""
    return connection(KafkaOptions(raw={key.replace("__", "."): value for key, value in raw.items()}).admin(servers))


def test_without_security() -> None:
    found = mapped("PLAINTEXT://one:9092,two:9093,[::1]:9094")
    assert found["bootstrap_servers"] == ["one:9092", "two:9093", "[::1]:9094"]
    assert found["security_protocol"] == "PLAINTEXT"
    assert not any(key.startswith(("sasl", "ssl")) for key in found)


@pytest.mark.parametrize("key", ["sasl__mechanism", "sasl__mechanisms", "admin__sasl__mechanism"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords(key: str, mechanism: str) -> None:
    given = {key: mechanism, "security__protocol": "sasl_plaintext", "sasl__username": "u", "sasl__password": "p"}
    found = mapped(**given)
    assert found["security_protocol"] == "SASL_PLAINTEXT"
    assert found["sasl_mechanism"] == mechanism
    assert (found["sasl_plain_username"], found["sasl_plain_password"]) == ("u", "p")


def test_other_mechanisms_are_refused_in_one_line() -> None:
    with pytest.raises(LeavingFailed, match=r"partitions rest until the session ends \(sasl\.mechanism GSSAPI cannot"):
        mapped(security__protocol="SASL_SSL", sasl__mechanisms="gssapi")


def test_tokens_that_librdkafka_makes_by_itself() -> None:
    given = {
        "sasl__mechanism": "OAUTHBEARER",
        "enable__sasl__oauthbearer__unsecure__jwt": "true",
        "sasl__oauthbearer__config": "principal=flights",
        "sasl__oauthbearer__extensions": "logicalCluster=lkc-1,identityPoolId=pool",
    }
    found = mapped(security__protocol="SASL_SSL", **given)
    provider = found["sasl_oauth_token_provider"]
    assert found["sasl_mechanism"] == "OAUTHBEARER" and provider.token().count(".") == 2
    assert provider.extensions() == {"logicalCluster": "lkc-1", "identityPoolId": "pool"}


def test_tokens_of_a_kind_that_only_librdkafka_knows() -> None:
    given = {
        "sasl__mechanism": "OAUTHBEARER",
        "sasl__oauthbearer__method": "oidc",
        "sasl__oauthbearer__grant__type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
    }
    with pytest.raises(
        LeavingFailed, match=r"rest until the session ends \(sasl\.oauthbearer\.grant\.type urn:.* only a"
    ):
        mapped(security__protocol="SASL_SSL", **given)


def test_tls_checks_certificates_and_names() -> None:
    context = mapped(security__protocol="ssl")["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_tls_without_the_check_of_names() -> None:
    context = mapped(security__protocol="ssl", ssl__endpoint__identification__algorithm="none")["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_tls_without_any_check() -> None:
    context = mapped(security__protocol="ssl", enable__ssl__certificate__verification="false")["ssl_context"]
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key, which has the password `secret`."""
    folder = tmp_path_factory.mktemp("files")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -days 2 -subj /CN=kstream -passout pass:secret"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


def test_tls_with_files(files: tuple[Path, Path]) -> None:
    certificate, key = map(str, files)
    own = {"ssl__certificate__location": certificate, "ssl__key__location": key, "ssl__key__password": "secret"}
    context = mapped(security__protocol="ssl", ssl__ca__location=certificate, **own)["ssl_context"]
    assert [dict(name)["commonName"] for one in context.get_ca_certs() for name in one["subject"]] == ["kstream"]
    with pytest.raises(LeavingFailed, match="TLS: "):  # and it is not asked for on the terminal
        mapped(security__protocol="ssl", **{**own, "ssl__key__password": ""})


def test_tls_with_a_certificate_in_the_settings(files: tuple[Path, Path]) -> None:
    context = mapped(security__protocol="ssl", ssl__ca__pem=files[0].read_text())["ssl_context"]
    assert len(context.get_ca_certs()) == 1


def test_tls_with_a_key_in_the_settings(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing of it stays on the disk."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    certificate, key = (file.read_text() for file in files)
    own = {"ssl__certificate__pem": certificate, "ssl__key__pem": key, "ssl__key__password": "secret"}
    assert isinstance(mapped(security__protocol="ssl", **own)["ssl_context"], ssl.SSLContext)
    one_of_each = {"ssl__certificate__location": str(files[0]), "ssl__key__pem": key, "ssl__key__password": "secret"}
    assert isinstance(mapped(security__protocol="ssl", **one_of_each)["ssl_context"], ssl.SSLContext)
    for wrong in ({"ssl__key__password": "other"}, {"ssl__key__pem": "no key"}):
        with pytest.raises(LeavingFailed, match="TLS: ") as failed:
            mapped(security__protocol="ssl", **{**own, **wrong})
        assert "PRIVATE KEY" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_what_only_librdkafka_reads_is_named() -> None:
    with pytest.raises(LeavingFailed, match=r"ssl\.engine\.id, ssl\.keystore\.location cannot be used here"):
        mapped(security__protocol="ssl", ssl__engine__id="-----", ssl__keystore__location="a.p12")
    with pytest.raises(LeavingFailed, match=r"TLS: .*No such file"):
        mapped(security__protocol="ssl", ssl__ca__location="/no/such/file")


def test_kafka_python_is_not_imported_with_the_module() -> None:
    code = "import sys, kstream.runtime.kafka.members; print('kafka' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
