"""What settings leave open to whoever is on the network: told at the start and by `kstream doctor`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import NamedTuple

from kstream.config import Settings
from kstream.config.kinds import CLIENTS, client_key


class Exposure(NamedTuple):
    """What is open, and what to do about it."""

    text: str
    advice: str

    def __str__(self) -> str:
        return f"{self.text}: {self.advice}"


def exposures(settings: Settings) -> list[Exposure]:
    """A line each; none where nothing is open."""
    return [*_kafka(settings), *_page(settings)]


def is_local(host: str) -> bool:
    """Whether nobody else hears what is said to this host: an address of loopback, or localhost."""
    name = host.strip("[]").lower()
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _kafka(settings: Settings) -> Iterator[Exposure]:
    raw = settings.kafka
    protocols = {value.upper() for value in _values(raw, "security.protocol")}
    if "security.protocol" not in raw:
        protocols.add("PLAINTEXT")  # of the kinds of clients that have none of their own
    far = [server for server in settings.bootstrap_servers.split(",") if not is_local(_host(server))]
    if far and (open_ := protocols & {"PLAINTEXT", "SASL_PLAINTEXT"}):
        what = "passwords and records" if "SASL_PLAINTEXT" in open_ else "records"
        wanted = "SASL_SSL" if "SASL_PLAINTEXT" in open_ else "SSL or SASL_SSL"
        yield Exposure(
            f"Kafka at {', '.join(far)} is spoken to without TLS, so {what} can be read on the way",
            f"set kafka.security.protocol to {wanted}",
        )
    if any(protocol.endswith("SSL") for protocol in protocols):
        if any(value.lower() == "false" for value in _values(raw, "enable.ssl.certificate.verification")):
            yield Exposure(
                "the certificates of brokers are not checked, so anybody on the way may be taken for one",
                "remove kafka.enable.ssl.certificate.verification, and set kafka.ssl.ca.location",
            )
        elif any(value.lower() == "none" for value in _values(raw, "ssl.endpoint.identification.algorithm")):
            yield Exposure(
                "the names in the certificates of brokers are not checked, so whoever has any certificate of the same "
                "authority may be taken for one",
                "remove kafka.ssl.endpoint.identification.algorithm",
            )
    if not any(protocol.startswith("SASL") for protocol in protocols) and any(
        client_key(name).startswith("sasl.") for name in raw
    ):
        yield Exposure(
            f"nobody logs in to Kafka: what kafka.sasl.* says is not used with security.protocol {min(protocols)}",
            "set kafka.security.protocol to SASL_SSL",
        )


def _page(settings: Settings) -> Iterator[Exposure]:
    served = settings.web and settings.workers != 0
    proxied = (settings.web_url or "").startswith("https://")
    if served and not is_local(settings.web_host) and settings.web_tls_certificate is None and not proxied:
        yield Exposure(
            f"the status page is served on {settings.web_host} without TLS, so its token can be read on the way",
            "set web_tls_certificate and web_tls_key, or web_url to the https address of a proxy before it",
        )


def _values(raw: Mapping[str, str], key: str) -> list[str]:
    """For all clients, and for one kind of them."""
    return [raw[name] for name in (key, *(f"{kind}.{key}" for kind in CLIENTS)) if name in raw]


def _host(server: str) -> str:
    return re.sub(r"^\w+://", "", server).rpartition(":")[0]
