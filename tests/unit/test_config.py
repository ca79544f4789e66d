"""Settings: where they come from, what they accept, what they show."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kstream.config import Settings, about
from kstream.config.sources import resolve_settings
from kstream.errors import ConfigError


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    import os

    for name in [one for one in os.environ if one.upper().startswith("KSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield


def resolve(app: Any = None, cli: Any = None, file: Path | None = None) -> tuple[Settings, dict[str, str]]:
    return resolve_settings(app or {}, cli or {}, file)


def fails(app: Any = None, cli: Any = None, file: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(app, cli, file)
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.exit_status == 2
    return message


def test_defaults() -> None:
    settings, sources = resolve()
    assert settings == Settings()
    assert set(sources) == {field.name for field in dataclasses.fields(Settings)}
    assert set(sources.values()) == {"default"}
    assert settings.commit_interval == 0.2
    assert settings.memory == 512 * 2**20
    assert settings.processing_guarantee == "exactly_once"


def test_every_setting_is_described_and_accepts_its_default() -> None:
    for name, setting in about().items():
        assert setting.doc.endswith("."), name
        assert setting.parse(getattr(Settings(), name)) == getattr(Settings(), name)


def test_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    app = {"workers": 1, "poll_batch": 1, "linger": 1, "backend": "memory"}
    Path("kstream.toml").write_text("workers = 2\npoll_batch = 2\nlinger = '2s'\n")
    monkeypatch.setenv("KSTREAM_WORKERS", "3")
    monkeypatch.setenv("KSTREAM_POLL_BATCH", "3")
    settings, sources = resolve(app, {"workers": "4", "instance": None})
    assert (settings.workers, settings.poll_batch, settings.linger, settings.backend) == (4, 3, 2.0, "memory")
    assert sources["workers"] == "command line"
    assert sources["poll_batch"] == "environment KSTREAM_POLL_BATCH"
    assert sources["linger"] == "kstream.toml"
    assert sources["backend"] == "App(...)"
    assert sources["instance"] == "default"


def test_named_file(tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text('state-dir = "/data"\n[kafka]\nsasl.mechanism = "PLAIN"\n"sasl.username" = "me"\nlog_level = 7\n')
    settings, sources = resolve(file=path)
    assert settings.state_dir == "/data"
    assert settings.kafka == {"sasl.mechanism": "PLAIN", "sasl.username": "me", "log_level": "7"}
    assert sources["state_dir"] == str(path)


@pytest.mark.parametrize(
    "name,given,stored",
    [
        ("commit_interval", "200ms", 0.2),
        ("commit_interval", "1", 1.0),
        ("commit_interval", timedelta(seconds=2), 2.0),
        ("max_poll_interval", "5m", 300.0),
        ("restart_reset_after", "1.5 h", 5400.0),
        ("memory", "1GiB", 2**30),
        ("memory", "64 mib", 64 * 2**20),
        ("memory", 10**9, 10**9),
        ("memory", "1gb", 10**9),
        ("auto_create_topics", "no", False),
        ("workers", "cores", None),
        ("workers", "0", 0),
        ("workers", " 1 .. 4", "1..4"),
        ("groups", "cpu-intensive, io", "cpu-intensive,io"),
        ("groups", "", ""),
        ("replication_factor", "-1", -1),
        ("log_level", "debug", "DEBUG"),
        ("bootstrap_servers", ["a:1", "b:2"], "a:1,b:2"),
        ("bootstrap_servers", "[::1]:9092", "[::1]:9092"),
        ("bootstrap_servers", "PLAINTEXT://a:1,plaintext://b:2", "PLAINTEXT://a:1,plaintext://b:2"),
        ("state_dir", Path("/x"), "/x"),
        ("restart_multiplier", "1.5", 1.5),
        ("max_uncommitted_records", "1_000", 1000),
    ],
)
def test_accepted(name: str, given: Any, stored: Any) -> None:
    for settings in (resolve(cli={name: given})[0], Settings(**{name: given})):
        found = getattr(settings, name)
        assert found == stored and type(found) is type(stored)


@pytest.mark.parametrize(
    "name,given,reason",
    [
        ("commit_interval", "fast", "'fast' is not a duration"),
        ("commit_interval", "200 parsecs", "is not a duration"),
        ("commit_interval", 0, "is not a duration"),
        ("commit_interval", True, "is not a duration"),
        ("memory", "lots", "is not a size"),
        ("memory", "1MiB", "is not a size"),
        ("memory_state_fraction", "nan", "is not a number from 0 to 1"),
        ("memory_state_fraction", 1.5, "is not a number from 0 to 1"),
        ("workers", "many", "is not a whole number of 0 or more"),
        ("workers", -1, "is not a whole number of 0 or more"),
        ("workers", "4..1", "MAX not less than MIN"),
        ("workers", "0..2", "MIN is 1 or more"),
        ("workers", "1..", "MIN..MAX"),
        ("groups", "a,,b", "is not a list of isolation groups"),
        ("groups", "CPU", "is not a list of isolation groups"),
        ("on_stop", "now", "is not one of auto, leave, stay"),
        ("workers", 1.5, "is not a whole number of 0 or more"),
        ("replication_factor", 0, "is not a whole number of 1 or more, or -1"),
        ("processing_guarantee", "maybe", "is not one of exactly_once, at_least_once"),
        ("bootstrap_servers", "localhost", "is not a list of brokers"),
        ("bootstrap_servers", "a:1,,b:2", "is not a list of brokers"),
        ("bootstrap_servers", "a:70000", "is not a list of brokers"),
        ("bootstrap_servers", "a:0", "is not a list of brokers"),
        ("bootstrap_servers", "kafka://localhost:9092", "kafka is not a protocol of Kafka's clients"),
        ("bootstrap_servers", "http://a:1,b:2", "write a:1"),
        ("instance", "a/b", "is not a name of letters"),
        ("auto_create_topics", "perhaps", "is neither true nor false"),
        ("kafka", 5, "is not a table of librdkafka keys"),
        ("kafka.group.id", "x", "may not hold group.id: it is the app's name"),
        ("kafka.enable.auto.commit", "true", "kstream commits offsets itself"),
        ("changelog", 5, "is not a table of Kafka's topic settings"),
        ("changelog.cleanup.policy", "delete", "may not hold cleanup.policy: changelogs are compacted"),
    ],
)
def test_refused(name: str, given: Any, reason: str) -> None:
    message = fails(cli={name: given})
    assert message.startswith(f"{name.split('.', maxsplit=1)[0]}: ")
    assert reason in message
    assert message.endswith("(from command line)")


@pytest.mark.parametrize("name", ["state_dir", "savepoints", "snapshots", "log_file", "web_tls_ca"])
def test_a_home_at_the_beginning_of_a_path_is_meant(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell does not see it in KSTREAM_SNAPSHOTS=~/x of a file, and a directory called ~ was made."""
    monkeypatch.setenv("HOME", "/home/ann")
    assert getattr(resolve(cli={name: "~/kept"})[0], name) == "/home/ann/kept"
    assert getattr(resolve(cli={name: "a/~b"})[0], name) == "a/~b"
    assert "begins with ~nobody-here, and there is no such home" in fails(cli={name: "~nobody-here/kept"})


def test_settings_checks_itself() -> None:
    with pytest.raises(ConfigError, match=r"^commit_interval: 'x' is not a duration"):
        Settings(commit_interval="x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "given,reason",
    [
        ({"transaction_timeout": "2s", "commit_interval": "1s"}, "transaction_timeout: 2s is not more than twice"),
        ({"memory_state_fraction": 0.9}, "together 1.4, more than 1"),
        ({"memory_fetch_min": "10MiB", "memory_fetch_max": "5MiB"}, "memory_fetch_min: 10485760 bytes are more than"),
        ({"memory": "100MiB", "memory_state_min": "90MiB"}, "with them the shares are"),
        ({"max_poll_interval": 5, "session_timeout": 6}, "max_poll_interval: 5s is less than session_timeout"),
        ({"restart_initial": 90}, "restart_max: 60s is less than restart_initial"),
        ({"autoscale_down": 0.5}, "autoscale_down: 0.5 is not less than half of autoscale_up (0.8)"),
    ],
)
def test_settings_that_do_not_go_together(given: Any, reason: str) -> None:
    assert reason in fails(given)


def test_sources_are_named_in_errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert fails({"linger": "x"}).endswith("(from App(...))")
    path = tmp_path / "kstream.toml"
    path.write_text('linger = "x"')
    assert fails().endswith("(from kstream.toml)")
    path.unlink()
    monkeypatch.setenv("KSTREAM_LINGER", "x")
    assert fails().endswith("(from environment KSTREAM_LINGER)")


def test_unknown_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fails({"worker": 1}) == "worker: there is no such setting (from App(...)); did you mean workers?"
    assert "the settings are bootstrap_servers, " in fails(cli={"zzz": 1})
    Path("kstream.toml").write_text("[memory_state]\nfraction = 1")
    assert "memory_state: there is no such setting (from kstream.toml); did you mean" in fails()
    Path("kstream.toml").unlink()
    monkeypatch.setenv("KSTREAM_WORKER", "2")
    assert fails() == (
        "worker: there is no such setting (from environment KSTREAM_WORKER); did you mean workers?"
    )  # fmt: skip


def test_keys_of_a_table_with_one_underscore(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were passed over, as variables of anybody: the app spoke to Kafka without its password."""
    for end in ("", "_FILE"):
        monkeypatch.setenv(f"KSTREAM_KAFKA_SASL_PASSWORD{end}", "p")
        answer = fails()
        assert f"from environment KSTREAM_KAFKA_SASL_PASSWORD{end}" in answer
        assert answer.endswith(f"two underscores before them: KSTREAM_KAFKA__SASL_PASSWORD{end}")
        monkeypatch.delenv(f"KSTREAM_KAFKA_SASL_PASSWORD{end}")
    # what Kubernetes sets for a Service that is called kstream-kafka is not ours
    monkeypatch.setenv("KSTREAM_KAFKA_PORT", "tcp://10.0.0.1:9092")
    monkeypatch.setenv("KSTREAM_KAFKA_PORT_9092_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("KSTREAM_KAFKA_SERVICE_HOST", "10.0.0.1")
    resolve()


def test_a_slip_in_the_name_of_a_secrets_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_WEB_TOKN_FILE", "/run/secrets/token")
    assert fails().endswith("(from environment KSTREAM_WEB_TOKN_FILE); did you mean web_token?")


def test_policies_are_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said so: the variable was passed over, as one of anybody, and nothing was skipped."""
    declared = "policies are declared in the code, as in App(on_error=[kstream.DeadLetter()])"
    assert fails(cli={"on_error": "skip"}) == f"on_error is no setting (from command line): {declared}"
    monkeypatch.setenv("KSTREAM_ON_ERROR", "skip")
    assert fails() == f"on_error is no setting (from environment KSTREAM_ON_ERROR): {declared}"


def test_other_variables_with_the_prefix_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT", "PORT", "PORT_9092_TCP_ADDR", "TEST_BOOTSTRAP_SERVERS", "CACHE"):
        monkeypatch.setenv(f"KSTREAM_{name}", "x")
    assert resolve()[0] == Settings()


def test_empty_variables_count_as_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KSTREAM_WORKERS", "")
    monkeypatch.setenv("KSTREAM_WORKERS_FILE", "")
    assert resolve()[0].workers is None


def test_files(tmp_path: Path) -> None:
    assert fails(file=tmp_path / "missing.toml").endswith("there is no such file")
    bad = tmp_path / "bad.toml"
    bad.write_text("workers =")
    assert "not valid TOML" in fails(file=bad)


class TestClientKeys:
    def test_merge_over_sources(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        Path("kstream.toml").write_text('[kafka]\na = "file"\nb = "file"\n')
        monkeypatch.setenv("KSTREAM_KAFKA", '{"b": "json", "c.d": "json", "e": "json"}')
        monkeypatch.setenv("KSTREAM_KAFKA__c.d", "variable")
        monkeypatch.setenv("KSTREAM_KAFKA__SASL_MECHANISM", "PLAIN")
        secret = tmp_path / "secret"
        secret.write_text("pass word\n")
        monkeypatch.setenv("KSTREAM_KAFKA__SASL_PASSWORD_FILE", str(secret))
        settings, sources = resolve({"kafka": {"a": "app", "z": True}}, {"kafka.e": "cli"})
        assert settings.kafka == {
            "z": "true", "a": "file", "b": "json", "c.d": "variable", "e": "cli", "sasl.mechanism": "PLAIN",
            "sasl.password": "pass word",
        }  # fmt: skip
        assert sources["kafka.z"] == "App(...)"
        assert sources["kafka.a"] == "kstream.toml"
        assert sources["kafka.b"] == "environment KSTREAM_KAFKA"
        assert sources["kafka.c.d"] == "environment KSTREAM_KAFKA__c.d"
        assert sources["kafka.sasl.password"] == "file of KSTREAM_KAFKA__SASL_PASSWORD_FILE"
        assert sources["kafka.e"] == sources["kafka"] == "command line"

    def test_those_of_changelogs_are_given_the_same_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Path("kstream.toml").write_text('[changelog]\nmax.message.bytes = 6000000\nsegment.ms = "1"\n')
        monkeypatch.setenv("KSTREAM_CHANGELOG", '{"segment.bytes": "json"}')
        monkeypatch.setenv("KSTREAM_CHANGELOG__SEGMENT_MS", "2")
        settings, sources = resolve({}, {"changelog.min.insync.replicas": 2})
        assert settings.changelog == {
            "max.message.bytes": "6000000", "segment.ms": "2", "segment.bytes": "json", "min.insync.replicas": "2",
        }  # fmt: skip
        assert settings.kafka == {}
        assert sources["changelog.max.message.bytes"] == "kstream.toml"
        assert sources["changelog.segment.ms"] == "environment KSTREAM_CHANGELOG__SEGMENT_MS"
        assert sources["changelog.segment.bytes"] == "environment KSTREAM_CHANGELOG"
        monkeypatch.setenv("KSTREAM_CHANGELOG", "segment.bytes")
        assert fails().startswith("changelog: the value is not a JSON object")

    def test_bad_json_shows_no_secret(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for bad in ('{"sasl.password": "hunter2"', '["hunter2"]', "hunter2", '{"sasl.password": ["hunter2"]}'):
            monkeypatch.setenv("KSTREAM_KAFKA", bad)
            message = fails()
            assert "hunter2" not in message and "KSTREAM_KAFKA" in message

    def test_whole_file(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        path.write_text('{"ssl.key.password": "hunter2"}')
        monkeypatch.setenv("KSTREAM_KAFKA_FILE", str(path))
        assert resolve()[0].kafka == {"ssl.key.password": "hunter2"}


def test_value_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "servers"
    path.write_text("kafka:9092\n")
    monkeypatch.setenv("KSTREAM_BOOTSTRAP_SERVERS_FILE", str(path))
    settings, sources = resolve()
    assert settings.bootstrap_servers == "kafka:9092"
    assert sources["bootstrap_servers"] == "file of KSTREAM_BOOTSTRAP_SERVERS_FILE"
    monkeypatch.setenv("KSTREAM_BOOTSTRAP_SERVERS", "other:9092")
    assert "use one" in fails()
    monkeypatch.delenv("KSTREAM_BOOTSTRAP_SERVERS")
    path.unlink()
    assert "cannot be read: No such file" in fails()


@pytest.mark.parametrize(
    "key,secret",
    [
        ("sasl.password", True), ("ssl.key.password", True), ("ssl.keystore.password", True), ("ssl.key.pem", True),
        ("sasl.oauthbearer.client.secret", True), ("sasl.oauthbearer.config", True), ("sasl.jaas.config", True),
        ("my.token", True), ("sasl.username", False), ("ssl.ca.location", False), ("ssl.key.location", False),
        ("sasl.oauthbearer.token.endpoint.url", False), ("security.protocol", False),
    ],
)  # fmt: skip
def test_redaction(key: str, secret: bool) -> None:
    settings = Settings(kafka={key: "hunter2"})
    assert settings.redacted()["kafka"] == {key: "***" if secret else "hunter2"}
    assert ("hunter2" in repr(settings)) is not secret
    assert settings.kafka[key] == "hunter2"


def test_json_round_trip() -> None:
    settings = Settings(workers=3, kafka={"sasl.password": "x"}, commit_interval=1.5, instance="a-1")
    assert Settings.from_json(settings.to_json()) == settings


def test_memory_shares() -> None:
    settings = Settings(memory="100MiB", memory_overlay_fraction=0.1)  # type: ignore[arg-type]
    assert settings.overlay_memory == 10 * 2**20
    shares = (settings.state_memory, settings.fetch_memory, settings.producer_memory, settings.overlay_memory)
    assert sum(shares) <= settings.memory


def test_memory_shares_have_a_least_and_a_most() -> None:
    given: Any = {"memory": "1GiB", "memory_fetch_max": "32MiB", "memory_producer_min": "200MiB"}
    settings = Settings(**given)
    assert settings.fetch_memory == 32 * 2**20, "of 128"
    assert settings.producer_memory == 200 * 2**20, "of 128"
    assert settings.overlay_memory == 256 * 2**20
    assert Settings(memory="1GiB", memory_fetch_max="unlimited").fetch_memory == 128 * 2**20  # type: ignore[arg-type]


def test_workers_import_no_pydantic() -> None:
    code = (
        "import sys, kstream.config, kstream.config.loading, kstream.observe.logs as logs\n"
        "s = kstream.config.Settings(); kstream.config.Settings.from_json(s.to_json()); logs.configure()\n"
        "print([one for one in ('pydantic', 'pydantic_settings', 'typer', 'rich', 'click') if one in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_workers_that_follow_the_load_have_a_range() -> None:
    assert [Settings(workers=n).worker_range for n in (None, 3, "2..5")] == [None, None, (2, 5)]
    assert Settings.from_json(Settings(workers="2..5").to_json()).worker_range == (2, 5)


def test_an_instance_with_a_name_keeps_its_place_when_it_stops() -> None:
    leaves = {
        (name, how): Settings(instance=name, on_stop=how).leaves_on_stop  # type: ignore[arg-type]
        for name in (None, "a")
        for how in ("auto", "leave", "stay")
    }
    assert leaves == {
        (None, "auto"): True, (None, "leave"): True, (None, "stay"): False,
        ("a", "auto"): False, ("a", "leave"): True, ("a", "stay"): False,
    }  # fmt: skip


def test_a_brokers_protocol_is_that_of_the_clients() -> None:
    """librdkafka would take such a broker for none at all, and say so when nobody answers."""
    given = {"bootstrap_servers": "SASL_SSL://h:9092", "kafka": {"security.protocol": "sasl_ssl"}}
    assert Settings(**given).bootstrap_servers == "SASL_SSL://h:9092"
    with pytest.raises(ConfigError, match=r"SASL_SSL://h:9092.* security\.protocol"):
        Settings(**given | {"kafka": {"security.protocol": "ssl"}})
    with pytest.raises(ConfigError, match=r"ssl://h:9092 has another .* set kafka security\.protocol to SSL"):
        Settings(bootstrap_servers="a:1,ssl://h:9092")


@pytest.mark.parametrize("content", ["", "\n", "\r\n"], ids=["nothing", "newline", "crlf"])
def test_an_empty_file_of_a_secret_is_called_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    """A volume that was not filled yet is the usual reason."""
    path = tmp_path / "secret"
    path.write_text(content)
    for variable, name in (("KSTREAM_WEB_TOKEN_FILE", "web_token"), ("KSTREAM_KAFKA__SASL_PASSWORD_FILE", "kafka")):
        with monkeypatch.context() as one:
            one.setenv(variable, str(path))
            with pytest.raises(ConfigError, match=rf"^{name}.*: the file {path} of {variable} is empty$"):
                resolve()


@pytest.mark.parametrize("token", ["a b", " a", "tök", "a\0b"], ids=["space", "first", "letter", "zero"])
def test_a_token_that_no_header_can_carry_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match=r"web_token: .\*\*\*. is not a token: letters, digits and signs"):
        resolve(cli={"web_token": token})
