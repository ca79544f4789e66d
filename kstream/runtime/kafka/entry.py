"""How clients are let in by brokers: tokens for OAUTHBEARER, what a refusal looks like, and what it is told as."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaError

from kstream.errors import AppLoadError, ConfigError, KafkaUnavailable, KStreamError

logger = logging.getLogger("kstream.kafka")

Token = tuple[str, float]
"""A token, and when it ends, in seconds since the epoch."""

SOON_SECONDS: Final = 5.0
"""A token that ends sooner is not taken from what is kept."""

AGAIN_SECONDS: Final = 75.0
"""How long the token before counts at most where there is no newer one: librdkafka asks again after four fifths."""

_REFUSED: Final = frozenset({KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._SSL})
_ALERT: Final = re.compile(r"alert (bad certificate|certificate|unknown ca|handshake failure|no certificate)")
"""How a broker says that it does not take the client's certificate. librdkafka tells it as a lost connection."""


class Tokens:
    """What librdkafka asks for tokens (`oauth_cb`), on a thread of its own, whenever one is about to end.

    Args:
        name: the setting's value, for messages.
        function: returns a token and the time (s since the epoch) at which it ends.

    Attributes:
        failed: why there was none the last time, whichever function of this process it was: librdkafka does not say.
    """

    failed: ClassVar[KStreamError | None] = None

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name, self._function = name, function
        self._lock = threading.Lock()
        self._kept: Token | None = None
        self._last: Token | None = None

    def __call__(self, _: str | None = None) -> Token:
        """Raises as `token`; librdkafka asks again after ten seconds."""
        return self.token()

    def token(self) -> Token:
        """The one of `try_out`, once and while it is good, else a new one. Where the function fails, the one before
        serves on until shortly before it ends: an outage of who gives tokens is none of Kafka's.

        Raises:
            KafkaUnavailable: the function raises. ConfigError: it returns something else.
        """
        with self._lock:
            if self._kept is not None and self._kept[1] - time.time() > SOON_SECONDS:
                kept, self._kept = self._kept, None  # the next time librdkafka wants a newer one
                return kept
            return self._newest()

    def try_out(self) -> None:
        """Asks for a token and keeps it. Raises as `token`."""
        with self._lock:
            self._kept = self._newest()

    def _newest(self) -> Token:
        try:
            self._last = self._ask()
        except KStreamError as error:
            last, now = self._last, time.time()
            if last is None or last[1] - now <= SOON_SECONDS:
                Tokens.failed = error
                raise
            logger.warning("%s; the previous token stays in use, it ends in %.0f s", error, last[1] - now)
            return last[0], min(last[1], now + AGAIN_SECONDS)
        return self._last

    def _ask(self) -> Token:
        from kstream.config.loading import told

        try:
            found = self._function()
        except Exception as error:
            raise KafkaUnavailable(f"kafka_tokens: {self._name} gives no token: {told(error)}") from error
        match found:
            case (str(text), (int() | float()) as ends) if text and not isinstance(ends, bool):
                return text, float(ends)
        raise ConfigError(
            f"kafka_tokens: {self._name} must return a pair: the token as text, and when it ends, in seconds since the "
            "epoch"
        )


def tokens_of(name: str | None) -> Tokens | None:
    """What `kafka_tokens` names.

    Raises:
        ConfigError: it is not there, or no function.
    """
    if name is None:
        return None
    from kstream.config.loading import load_target

    try:
        found = load_target(name)
    except AppLoadError as error:
        raise ConfigError(f"kafka_tokens: {error}") from error
    if not callable(found):
        raise ConfigError(f"kafka_tokens: {name} is no function")
    return Tokens(name, found)


def check_login(config: Mapping[str, Any], tokens: Tokens | None) -> None:
    """Refuses what librdkafka would take, and then wait for without a word.

    Raises:
        ConfigError: SASL without a mechanism, or OAUTHBEARER without anything that gives tokens.
    """
    if not str(config.get("security.protocol", "")).upper().startswith("SASL"):
        return
    mechanism = mechanism_of(config)
    if mechanism is None:
        raise ConfigError("kafka.sasl.mechanism is not set: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER")
    if mechanism != "OAUTHBEARER" or tokens is not None:
        return
    by_itself = str(config.get("sasl.oauthbearer.method", "")).lower() == "oidc"
    if not by_itself and str(config.get("enable.sasl.oauthbearer.unsecure.jwt", "")).lower() != "true":
        raise ConfigError(
            "kafka.sasl.mechanism OAUTHBEARER needs tokens: set kafka.sasl.oauthbearer.method to oidc, with "
            "sasl.oauthbearer.token.endpoint.url, .client.id and .client.secret, or kafka_tokens to a function"
        )


def mechanism_of(config: Mapping[str, Any]) -> str | None:
    found = config.get("sasl.mechanism") or config.get("sasl.mechanisms")
    return None if not found else str(found).upper()


def is_refusal(error: KafkaError) -> bool:
    """Whether a broker does not let this client in, or this client does not trust the broker."""
    return error.code() in _REFUSED or (
        error.code() == KafkaError._TRANSPORT and _ALERT.search(error.str()) is not None
    )


def no_token(error: KafkaError) -> KafkaUnavailable | None:
    """What the error means where it is that there is no token; None where it is something else."""
    if error.code() != KafkaError._AUTHENTICATION or "OAUTHBEARER token" not in error.str() or Tokens.failed is None:
        return None
    return KafkaUnavailable(str(Tokens.failed))


def refused(error: KafkaError, servers: str) -> KStreamError:
    """A refusal, with what to look at."""
    text = error.str()
    if error.code() in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED):
        return KafkaUnavailable(
            f"Kafka at {servers} does not let this user in: check kafka.sasl.mechanism and what it logs in with"
            f" ({text})"
        )
    if _ALERT.search(text):
        return KafkaUnavailable(
            f"Kafka at {servers} does not take this client's certificate: check kafka.ssl.certificate.location and "
            f"kafka.ssl.key.location ({text})"
        )
    return KafkaUnavailable(
        f"Kafka at {servers} has a certificate that is not trusted, or TLS fails otherwise: check "
        f"kafka.ssl.ca.location, the broker's name, and whether its certificate has expired ({text})"
    )


def no_answer(servers: str, timeout: float, protocol: str, last: KafkaError | None) -> KafkaUnavailable:
    """Nobody answered in time."""
    heard = f"; heard last: {last.str()}" if last is not None and last.code() != KafkaError._ALL_BROKERS_DOWN else ""
    hint = ""
    if last is not None and not heard and protocol.upper() == "PLAINTEXT":  # connections are made, and closed at once
        hint = "; where brokers want TLS or a login: kafka.security.protocol"
    waited = f"waited {timeout:.3g} s{heard}"
    return KafkaUnavailable(
        f"no Kafka broker answers at {servers} ({waited}): start one, or set bootstrap_servers{hint}"
    )
