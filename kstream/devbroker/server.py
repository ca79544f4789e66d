"""What the broker runs with: its settings and its ports."""

from __future__ import annotations

import base64
import random
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path

# Below the ephemeral ports of Linux and macOS: there, a client that keeps connecting to a stopped broker's port can be
# given that very port as its own, connect to itself, and keep the broker from coming back.
FREE_PORTS = range(20_000, 32_000)


def settings(
    port: int, controller_port: int, log_dir: Path, extra: Mapping[str, str], *, killed: bool = False
) -> dict[str, str]:
    """server.properties for one node that is broker and controller, small and quick.

    Args:
        killed: whether it ended without order the last time.
    """
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(log_dir),
        # topics are declared, not made by a typing error
        "auto.create.topics.enable": "false",
        # internal topics: one node, few partitions
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        # groups form at once, and tests may ask for short sessions
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "100",
        "group.consumer.heartbeat.interval.ms": "500",
        # A broker that stood still for longer than its session (9 s by default) loses its partitions for a moment. What
        # Kafka aborts then stays without markers, and is committed with what its producer commits next, or hides all
        # that comes after it (KAFKA-20734, open in 4.4.0). There is nobody here to take them over: it keeps them. One
        # that was killed waits for the end of its former session before it is let back in.
        "broker.heartbeat.interval.ms": "500",
        "broker.session.timeout.ms": "3000" if killed else "3600000",
        # 128 MB of heap by default; this holds 600,000 keys a pass
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
        **extra,
    }


def properties(values: Mapping[str, str]) -> str:
    """In the syntax of Java's properties files."""
    return "".join(f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in values.items())


def new_id() -> str:
    """An id as Kafka has them, of a cluster or a directory; without dashes, for Kafka's commands take it as a word."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "0")


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def free_port(other_than: int | None = None) -> int:
    """A port that nobody listens on, chosen at random so that brokers that start together do not meet."""
    while True:
        port = random.choice(FREE_PORTS)
        if port != other_than and is_free(port):
            return port
