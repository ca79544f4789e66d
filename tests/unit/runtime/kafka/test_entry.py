"""Tokens, and logins that nobody could use (`kstream.runtime.kafka.entry`)."""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

import pytest
from confluent_kafka import KafkaError

from kstream.config import Settings
from kstream.errors import ConfigError, KafkaUnavailable
from kstream.runtime.kafka import KafkaOptions, options_from
from kstream.runtime.kafka.entry import Tokens, is_refusal, refused, tokens_of
from kstream.runtime.kafka.problems import meaning


def given(*answers: Any) -> tuple[Tokens, list[Any]]:
    left = list(answers)

    def function() -> Any:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Tokens("here:function", function), left


def test_what_was_tried_out_is_the_first_that_a_client_gets() -> None:
    ends = time.time() + 60
    tokens, left = given(("one", ends), ("two", ends))
    tokens.try_out()
    assert tokens(None) == ("one", ends)
    assert tokens(None) == ("two", ends)  # who asks again wants a newer one
    assert not left


def test_one_that_is_about_to_end_is_not_handed_out_again() -> None:
    tokens, _ = given(("one", time.time() + 1), ("two", 2e9))
    tokens.try_out()
    assert tokens(None) == ("two", 2e9)


@pytest.mark.parametrize("answer", [None, "t", ("t",), ("t", "soon"), (5, 2e9), ("", 2e9), ("t", True)], ids=repr)
def test_a_function_that_returns_something_else_is_named_without_what_it_returns(answer: Any) -> None:
    tokens, _ = given(answer)
    with pytest.raises(ConfigError, match="here:function must return a pair"):
        tokens.try_out()


def test_a_function_that_raises_is_named_with_the_reason() -> None:
    tokens, _ = given(OSError("no route"))
    with pytest.raises(KafkaUnavailable, match=r"here:function gives no token: .*OSError: no route"):
        tokens(None)


@pytest.mark.parametrize("failure", [OSError("no route"), None], ids=["raises", "returns nothing"])
def test_a_function_that_fails_for_a_while_ends_nothing_that_has_a_token(
    failure: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    ends = time.time() + 3600
    tokens, left = given(("one", ends), failure, failure, ("two", ends + 60))
    assert tokens(None) == ("one", ends)
    token, until = tokens(None)
    assert token == "one" and time.time() + 60 < until < ends, "librdkafka asks again soon"
    tokens.try_out()  # a client that is made meanwhile
    assert tokens(None)[0] == "one"
    assert tokens(None) == ("two", ends + 60)
    assert not left
    lines = [record.getMessage() for record in caplog.records]
    assert lines and all("here:function" in line and "the previous token stays in use" in line for line in lines)
    assert not any("one" in line.split() for line in lines)


def test_a_token_that_is_about_to_end_is_not_used_on() -> None:
    tokens, _ = given(("one", time.time() + 4), OSError("no route"))
    assert tokens(None)[0] == "one"
    with pytest.raises(KafkaUnavailable, match="no route"):
        tokens(None)
    told = "Failed to acquire SASL OAUTHBEARER token: OAuth callback raised exception"
    meant = meaning(KafkaError(KafkaError._AUTHENTICATION, told), "consumer", "b:9092")
    assert "here:function gives no token: " in str(meant) and "OSError: no route" in str(meant)
    denied = meaning(KafkaError(KafkaError._AUTHENTICATION, "wrong"), "consumer", "b:9092")
    assert "does not let this user in" in str(denied) and "(wrong)" in str(denied)


def test_a_setting_that_names_no_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("some_tokens")
    module.value = 5  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_tokens", module)
    assert tokens_of(None) is None
    for name, expected in (
        ("some_tokens:value", "is no function"),
        ("some_tokens:other", "no 'other'"),
        ("not_there:f", "no module named"),
    ):
        with pytest.raises(ConfigError, match=f"kafka_tokens: .*{expected}"):
            tokens_of(name)


def test_a_token_in_the_place_of_a_function_is_not_shown() -> None:
    with pytest.raises(ConfigError) as bad:
        Settings(kafka_tokens="eyJhbGciOi.secret.x")
    assert str(bad.value) == "kafka_tokens: the value is not of the form MODULE:FUNCTION"


SASL = {"security.protocol": "SASL_SSL"}


@pytest.mark.parametrize("kind", ["consumer", "producer", "admin"])
def test_logins_that_nobody_could_use_are_refused_for_every_kind_of_client(kind: Any) -> None:
    bad = [SASL, {**SASL, "sasl.mechanism": "OAUTHBEARER"}, {f"{kind}.{name}": value for name, value in SASL.items()}]
    for raw in bad:
        with pytest.raises(ConfigError, match=r"kafka\.sasl\.mechanism"):
            KafkaOptions(raw=raw).common("one:1", kind)
    good: list[dict[str, str]] = [
        {},
        {**SASL, "sasl.mechanisms": "PLAIN"},
        {**SASL, "sasl.mechanism": "oauthbearer", "sasl.oauthbearer.method": "OIDC"},
        {**SASL, "sasl.mechanism": "OAUTHBEARER", "enable.sasl.oauthbearer.unsecure.jwt": "true"},
    ]
    for raw in good:
        assert "oauth_cb" not in KafkaOptions(raw=raw).common("one:1", kind)


def test_all_clients_ask_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("some_tokens")
    module.function = lambda: ("t", 2e9)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_tokens", module)
    settings = Settings(kafka={**SASL, "sasl.mechanism": "OAUTHBEARER"}, kafka_tokens="some_tokens:function")
    options = options_from(settings, "x")
    first, second = options.admin("one:1")["oauth_cb"], options.producer("one:1", "id")["oauth_cb"]
    assert isinstance(first, Tokens)
    assert first is second


ALERT = "ssl://b:1: Receive failed: error:0A000412:SSL routines::ssl/tls alert bad certificate: SSL alert number 42"


@pytest.mark.parametrize(
    ("code", "text", "expected"),
    [
        (KafkaError._AUTHENTICATION, "SASL authentication error: no", "does not let this user in"),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "no", "does not let this user in"),
        (KafkaError._SSL, "certificate verify failed", "not trusted"),
        (KafkaError._TRANSPORT, ALERT, "does not take this client's certificate"),
        (KafkaError._TRANSPORT, "Connect failed: Connection refused", None),
        (KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down", None),
    ],
    ids=["login", "login, by the broker", "trust", "certificate", "nobody there", "none is up"],
)
def test_what_is_a_refusal(code: int, text: str, expected: str | None) -> None:
    error = KafkaError(code, text)
    assert is_refusal(error) is (expected is not None)
    if expected is not None:
        assert expected in str(refused(error, "b:1"))
        assert text in str(refused(error, "b:1"))
