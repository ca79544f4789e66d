"""Three development brokers that are one cluster: what a single one cannot show, coordinators that move."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from kstream.devbroker import DevBroker
from kstream.devbroker.broker import MARKER
from kstream.devbroker.server import free_port, new_id

_REPLICATED = {
    "offsets.topic.replication.factor": "3",
    "offsets.topic.num.partitions": "12",
    "transaction.state.log.replication.factor": "3",
    "default.replication.factor": "3",
    "broker.session.timeout.ms": "3000",  # here others take over what one has; it is let in again when that is over
}


def free_ports(count: int) -> list[int]:
    """So many different ones."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return [*found]


@contextmanager
def three_brokers(directory: Path) -> Iterator[list[DevBroker]]:
    """The first of them is the controller too: it must stay."""
    with ExitStack() as running:
        first = running.enter_context(DevBroker(data_dir=directory / "broker-1", config=_REPLICATED, start_timeout=180))
        voters = _setting(first.data_dir / "server.properties", "controller.quorum.voters")
        cluster = _setting(first.data_dir / "logs" / "meta.properties", "cluster.id")
        brokers = [first]
        for number in ("2", "3"):
            data, port = directory / f"broker-{number}", free_port()
            (data / "logs").mkdir(parents=True)
            (data / MARKER).touch()
            (data / "logs" / "meta.properties").write_text(
                f"version=1\nnode.id={number}\ncluster.id={cluster}\ndirectory.id={new_id()}\n"
            )
            own = {
                "process.roles": "broker",
                "node.id": number,
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://127.0.0.1:{port}",
            }
            brokers.append(running.enter_context(DevBroker(port, data, config=_REPLICATED | own, start_timeout=180)))
        yield brokers
        for broker in brokers:  # in good order it would take them seconds
            broker.kill()


def _setting(file: Path, name: str) -> str:
    found = re.search(rf"^{re.escape(name)}=(.*)$", file.read_text(), re.MULTILINE)
    assert found, f"{name} is not in {file}"
    return found[1].strip()
