"""Tokens for OAUTHBEARER outside librdkafka, where its settings say how it gets them by itself.

Two of its ways are known: `sasl.oauthbearer.method=oidc` asks a token endpoint with the client's credentials (RFC 6749,
4.4), and `enable.sasl.oauthbearer.unsecure.jwt` makes tokens without a signature, for development.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlencode

from kstream.errors import ConfigError, KafkaUnavailable
from kstream.runtime.kafka.entry import Tokens

ENDPOINT_SECONDS: Final = 5.0
"""For a token endpoint to answer."""

_OTHER_GRANTS: Final = ("sasl.oauthbearer.metadata.authentication.type", "sasl.oauthbearer.assertion.algorithm")


def bearer(config: Mapping[str, Any]) -> Callable[[], str]:
    """What gives a token each time it is called. That raises KafkaUnavailable where there is none.

    Args:
        config: of a client of librdkafka.

    Raises:
        ConfigError: it gets them in a way that only librdkafka knows.
    """
    tokens = config.get("oauth_cb")
    if isinstance(tokens, Tokens):
        return lambda: tokens.token()[0]
    if str(config.get("sasl.oauthbearer.method", "")).lower() == "oidc":
        return _from_endpoint(config)
    if str(config.get("enable.sasl.oauthbearer.unsecure.jwt", "")).lower() == "true":
        return lambda: _unsigned(_pairs(str(config.get("sasl.oauthbearer.config", "")), " "), time.time())
    raise ConfigError("OAUTHBEARER without kafka_tokens, or sasl.oauthbearer.method oidc, cannot be used here")


def extensions_of(config: Mapping[str, Any]) -> dict[str, str]:
    """What is sent beside a token."""
    return _pairs(str(config.get("sasl.oauthbearer.extensions") or ""), ",")


def _from_endpoint(config: Mapping[str, Any]) -> Callable[[], str]:
    grant = str(config.get("sasl.oauthbearer.grant.type", "client_credentials"))
    other = next((name for name in _OTHER_GRANTS if str(config.get(name) or "none").lower() != "none"), None)
    if grant != "client_credentials" or other is not None:
        what = other or f"sasl.oauthbearer.grant.type {grant}"
        raise ConfigError(f"{what} cannot be used here, only a client's secret")
    url = str(config.get("sasl.oauthbearer.token.endpoint.url"))
    client, secret = (_client(config, name) for name in ("id", "secret"))
    body = {"grant_type": grant}
    if scope := config.get("sasl.oauthbearer.scope"):
        body["scope"] = str(scope)
    login = base64.b64encode(f"{client}:{secret}".encode()).decode()  # as librdkafka has it: RFC 6749 would quote them
    context = _trusting(config) if url.lower().startswith("https") else None

    def ask() -> str:
        request = urllib.request.Request(
            url,
            urlencode(body).encode(),
            {
                "Authorization": f"Basic {login}",
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=ENDPOINT_SECONDS, context=context) as answer:
                token = json.load(answer)["access_token"]
        except (OSError, ValueError, KeyError, TypeError) as error:  # HTTP's errors are OSErrors
            raise KafkaUnavailable(f"{url} gives no token: {type(error).__name__}: {error}") from error
        return str(token)

    return ask


def _client(config: Mapping[str, Any], name: str) -> str:
    """By the key of today, or by that of older versions of librdkafka."""
    prefix = "sasl.oauthbearer.client"
    return str(config.get(f"{prefix}.{name}") or config.get(f"{prefix}.credentials.client.{name}"))


def _trusting(config: Mapping[str, Any]) -> ssl.SSLContext:
    location, text = config.get("https.ca.location"), config.get("https.ca.pem")
    if location and location != "probe":
        return ssl.create_default_context(cafile=str(location))
    return ssl.create_default_context(cadata=str(text) if text else None)


def _unsigned(given: Mapping[str, str], now: float) -> str:
    """A token as librdkafka makes it of `sasl.oauthbearer.config`."""
    claims: dict[str, Any] = {
        given.get("principalClaimName", "sub"): given.get("principal", ""),
        "iat": now,
        "exp": now + float(given.get("lifeSeconds", 3600)),
    }
    if scope := given.get("scope"):
        claims[given.get("scopeClaimName", "scope")] = scope.split(",")
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts) + "."


def _pairs(text: str, between: str) -> dict[str, str]:
    """`a=b c=d`."""
    pairs = (part.partition("=") for part in text.split(between) if part.strip())
    return {name.strip(): value for name, _, value in pairs}
