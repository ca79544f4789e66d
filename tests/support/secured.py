"""A real broker that asks who is there: a listener for each way to say it, users, and rights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # they are exported, in a way mypy does not see
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509 import load_pem_x509_certificate

from kstream.devbroker import DevBroker
from support.cluster import free_ports
from support.kafka import SECONDS
from support.running import until

USER, PASSWORD = "alice", "al!ce's %secret+1"
"""May do everything. The password has what JAAS, URLs and shells treat in their ways."""
LIMITED = "bob"
"""May do what a test gives; the password is the same."""
KEY_PASSWORD = "key-pass-w0rd"

MODULES = "org.apache.kafka.common.security"
LISTENERS = {
    "PLAINTEXT": "PLAINTEXT",
    "SASL": "SASL_PLAINTEXT",
    "SASLTLS": "SASL_SSL",
    "TLS": "SSL",
    "MTLS": "SSL",
}
"""PLAINTEXT is the tests' own, and the broker's: whoever comes there may do everything."""
SCRAM = {"SCRAM-SHA-256": ScramMechanism.SCRAM_SHA_256, "SCRAM-SHA-512": ScramMechanism.SCRAM_SHA_512}


@dataclass(frozen=True)
class Certificates:
    """Files. `client` is alice's, `expired` was hers, `stranger` is signed by an authority that the broker does not
    know; `stale` is a server's that has expired, with its key."""

    ca: Path
    server: Path
    client: Path
    client_key: Path
    locked_key: Path
    keystore: Path
    stranger: Path
    stranger_key: Path
    expired: Path
    expired_key: Path
    stale: Path


def certificates(directory: Path) -> Certificates:
    ours, other = trustme.CA(), trustme.CA()
    server = ours.issue_cert("127.0.0.1", "localhost")
    past = datetime.now() - timedelta(days=1)
    stale = ours.issue_cert("127.0.0.1", not_after=past)
    expired = ours.issue_cert("client@example.com", common_name=USER, not_after=past)
    client, stranger = ours.issue_cert("client@example.com", common_name=USER), other.issue_cert("x@example.com")

    def file(name: str, *parts: bytes) -> Path:
        path = directory / name
        path.write_bytes(b"".join(parts))
        path.chmod(0o600)
        return path

    def key(leaf: trustme.LeafCert, password: str | None = None) -> bytes:
        """In PKCS#8, the one form that Kafka reads."""
        found = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
        sealed = (
            serialization.NoEncryption()
            if password is None
            else serialization.BestAvailableEncryption(password.encode())
        )
        return found.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed)

    def chain(leaf: trustme.LeafCert) -> list[bytes]:
        return [one.bytes() for one in leaf.cert_chain_pems]

    store = pkcs12.serialize_key_and_certificates(
        b"client",
        serialization.load_pem_private_key(client.private_key_pem.bytes(), None),  # type: ignore[arg-type]
        load_pem_x509_certificate(chain(client)[0]),
        None,
        serialization.BestAvailableEncryption(KEY_PASSWORD.encode()),
    )
    return Certificates(
        ca=file("ca.pem", ours.cert_pem.bytes()),
        server=file("server.pem", key(server), *chain(server)),
        client=file("client.pem", *chain(client)),
        client_key=file("client.key", key(client)),
        locked_key=file("client-locked.key", key(client, KEY_PASSWORD)),
        keystore=file("client.p12", store),
        stranger=file("stranger.pem", *chain(stranger)),
        stranger_key=file("stranger.key", key(stranger)),
        expired=file("expired.pem", *chain(expired)),
        expired_key=file("expired.key", key(expired)),
        stale=file("stale.pem", key(stale), *chain(stale)),
    )


class Secured:
    """The broker, its addresses by listener, and the rights of `LIMITED`."""

    def __init__(self, broker: DevBroker, ports: Mapping[str, int], files: Certificates) -> None:
        self.files = files
        self.servers = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        self.admin = AdminClient({"bootstrap.servers": self.servers["PLAINTEXT"]})
        self._broker = broker

    def add_users(self) -> None:
        """What is kept in the cluster, and not in the broker's settings: SCRAM's passwords."""
        for user in (USER, LIMITED):
            self.set_password(user, PASSWORD)

    def set_password(self, user: str, password: str) -> None:
        """Of SCRAM. Connections that stand are not ended by it."""
        for mechanism in SCRAM.values():
            wanted = UserScramCredentialUpsertion(user, ScramCredentialInfo(mechanism, 4096), password.encode())
            self.admin.alter_user_scram_credentials([wanted])[user].result(SECONDS)

    # ---- rights

    def allow(self, *rights: tuple[str, str, str]) -> None:
        """Gives (kind, name, operation) to `LIMITED`: kind topic, group, transactional_id or cluster; a name that ends
        with * is a prefix."""
        for made in self.admin.create_acls([_binding(*right) for right in rights]).values():
            made.result(SECONDS)
        until(lambda: set(map(_binding_key, map(_of, rights))) <= self._rights(), "the rights")

    def withdraw(self, *rights: tuple[str, str, str]) -> None:
        filters = [
            AclBindingFilter(
                one.restype, one.name, one.resource_pattern_type, one.principal, one.host, one.operation,
                one.permission_type,
            )
            for one in map(_of, rights)
        ]  # fmt: skip
        for gone in self.admin.delete_acls(filters).values():
            gone.result(SECONDS)
        until(lambda: not set(map(_binding_key, map(_of, rights))) & self._rights(), "the rights' end")

    def _rights(self) -> set[tuple[object, ...]]:
        everything = AclBindingFilter(
            ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
        )
        return set(map(_binding_key, self.admin.describe_acls(everything).result(SECONDS)))


def _of(right: tuple[str, str, str]) -> AclBinding:
    return _binding(*right)


def _binding(kind: str, name: str, operation: str) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if name.endswith("*") else ResourcePatternType.LITERAL
    resource = ResourceType.BROKER if kind == "cluster" else ResourceType[kind.upper()]
    return AclBinding(
        resource, name.removesuffix("*"), pattern, f"User:{LIMITED}", "*", AclOperation[operation],
        AclPermissionType.ALLOW,
    )  # fmt: skip


def _binding_key(one: AclBinding) -> tuple[object, ...]:
    return one.restype, one.name, one.resource_pattern_type, one.principal, one.operation


def _jaas(module: str, **options: str) -> str:
    said = " ".join(f'{name}="{value}"' for name, value in options.items())
    return f"{MODULES}.{module} required {said};"


def broker_config(files: Certificates, ports: Mapping[str, int], controller: int) -> dict[str, str]:
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    protocols = ",".join(f"{name}:{protocol}" for name, protocol in {**LISTENERS, "CONTROLLER": "PLAINTEXT"}.items())
    config = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": protocols,
        "inter.broker.listener.name": "PLAINTEXT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:{USER}",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
        # a client that is refused is told after this
        "connection.failed.authentication.delay.ms": "10",
    }
    for name, protocol in LISTENERS.items():
        mine = f"listener.name.{name.lower()}."
        if protocol.endswith("SSL"):
            config |= {
                f"{mine}ssl.keystore.type": "PEM",
                f"{mine}ssl.keystore.location": str(files.server),
                f"{mine}ssl.truststore.type": "PEM",
                f"{mine}ssl.truststore.location": str(files.ca),
                f"{mine}ssl.client.auth": "required" if name == "MTLS" else "none",
            }
        if protocol.startswith("SASL"):
            users = {f"user_{user}": PASSWORD for user in (USER, LIMITED)}
            config |= {
                f"{mine}sasl.enabled.mechanisms": ",".join(["PLAIN", *SCRAM, "OAUTHBEARER"]),
                f"{mine}plain.sasl.jaas.config": _jaas("plain.PlainLoginModule", **users),
                f"{mine}scram-sha-256.sasl.jaas.config": _jaas("scram.ScramLoginModule"),
                f"{mine}scram-sha-512.sasl.jaas.config": _jaas("scram.ScramLoginModule"),
                f"{mine}oauthbearer.sasl.jaas.config": _jaas(
                    "oauthbearer.OAuthBearerLoginModule", unsecuredLoginStringClaim_sub="broker"
                ),
            }
    return config


@contextmanager
def secured_broker(directory: Path) -> Iterator[Secured]:
    """Starts one, in the 3 s of any other."""
    files = certificates(directory)
    controller, *others = free_ports(1 + len(LISTENERS))
    ports = dict(zip(LISTENERS, others, strict=True))
    config = broker_config(files, ports, controller)
    with DevBroker(ports["PLAINTEXT"], config=config, start_timeout=180) as broker:
        secured = Secured(broker, ports, files)
        secured.add_users()
        yield secured
        broker.kill()


def settings_for(secured: Secured, way: str, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    """What `kafka.` is set to, and `bootstrap_servers`, for one of the ways to be let in (`WAYS`)."""
    listener, mechanism = WAYS[way]
    protocol = LISTENERS[listener]
    found = {"bootstrap_servers": secured.servers[listener], "kafka.security.protocol": protocol}
    if protocol.endswith("SSL"):
        found["kafka.ssl.ca.location"] = str(secured.files.ca)
    if listener == "MTLS":
        found["kafka.ssl.certificate.location"] = str(secured.files.client)
        found["kafka.ssl.key.location"] = str(secured.files.locked_key)
        found["kafka.ssl.key.password"] = KEY_PASSWORD
    if mechanism is not None:
        found["kafka.sasl.mechanism"] = mechanism
    if mechanism is not None and mechanism != "OAUTHBEARER":
        found["kafka.sasl.username"], found["kafka.sasl.password"] = user, password
    return found


WAYS: dict[str, tuple[str, str | None]] = {
    "PLAIN": ("SASL", "PLAIN"),
    "SCRAM-SHA-256": ("SASL", "SCRAM-SHA-256"),
    "SCRAM-SHA-512": ("SASL", "SCRAM-SHA-512"),
    "PLAIN over TLS": ("SASLTLS", "PLAIN"),
    "SCRAM-SHA-512 over TLS": ("SASLTLS", "SCRAM-SHA-512"),
    "OAUTHBEARER": ("SASL", "OAUTHBEARER"),
    "TLS": ("TLS", None),
    "mTLS": ("MTLS", None),
}
"""By what it is called: the listener and the mechanism."""
