"""An instance that can be looked at: its observer, the announcements through Kafka, and the web server."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from kstream.config import Settings
from kstream.observe.status import InstanceStatus
from kstream.runtime.cluster.announce import Announcer, quiet
from kstream.runtime.cluster.group_sizes import GroupSizes
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.view.observer import Observer
from kstream.runtime.view.queries import Queries
from kstream.topology import Topology
from kstream.web import local
from kstream.web.server import WebServer
from kstream.web.signing import key_of
from kstream.web.state import State
from kstream.web.tls import tls_of, trusting
from kstream.web.token import FILE, token_for

log = logging.getLogger(__name__)


@contextmanager
def observed(
    supervisor: Supervisor, topology: Topology, settings: Settings, instance: str, sources: Mapping[str, str]
) -> Iterator[Observer]:
    """Observes, announces and serves the instance, as the settings say, until the block ends.

    Args:
        sources: where each setting comes from, for the page.

    Raises:
        ConfigError: the address cannot be listened on, or its certificate cannot be used.
    """
    observer = Observer(supervisor, topology, settings, instance, sources)
    queries = None
    if settings.state_queries:
        queries = Queries(supervisor, topology, supervisor.partitions, instance, partial(_others, observer))
    server = _serve(topology.app, observer, settings, queries) if settings.web else None
    if server is not None:
        local.tell(Path(settings.state_dir), instance, server.url)
    announcer = _announce(observer, topology.app, settings) if settings.announce_interval else None
    sizes = _sizes(topology.app, settings) if settings.worker_range else None
    if sizes is not None:
        observer.members = sizes
    try:
        yield observer
    finally:
        if announcer is not None:
            announcer.stop()
        if server is not None:
            local.forget(Path(settings.state_dir), instance)
            server.stop()
        if sizes is not None:
            sizes.close()
        observer.close()


def _others(observer: Observer) -> list[InstanceStatus]:
    """As of now: they are heard of only once the announcer runs."""
    return observer.others()


def _serve(app: str, observer: Observer, settings: Settings, queries: Queries | None) -> WebServer:
    tls = tls_of(settings)
    token = token_for(settings.web_token, Path(settings.state_dir))
    state = State(queries, key_of(token, app), trusting(settings.web_tls_ca))
    server = WebServer(observer, token, settings.web_host, settings.web_port, _names(settings), tls, state)
    server.start()
    observer.url = settings.web_url or _url_for_others(server, settings.web_host)
    if queries is not None:
        queries.url = observer.url
    if sys.stderr.isatty():  # somebody sits there: the link lets them in
        log.info("status page: %s/#token=%s", server.url, token)
    else:
        where = "web_token" if settings.web_token else Path(settings.state_dir) / FILE
        log.info("status page: %s (its token: %s)", server.url, where)
    return server


def _names(settings: Settings) -> list[str]:
    """The host names under which it may be asked: those under which it tells others of itself, and those set."""
    told = urlsplit(settings.web_url or "").hostname
    return [socket.gethostname(), *([told] if told else []), *settings.web_hosts.split(",")]


def _url_for_others(server: WebServer, host: str) -> str:
    """Served to this machine only, it is this machine's URL that is told; else that of the host's name."""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return server.url if local else f"{server.scheme}://{socket.gethostname()}:{server.port}"


def _sizes(app: str, settings: Settings) -> GroupSizes:
    clients = KafkaClients(settings.bootstrap_servers, quiet(options_from(settings, f"{app}-groups")))
    return GroupSizes(clients.admin(), app, time.monotonic)


def _announce(observer: Observer, app: str, settings: Settings) -> Announcer:
    clients = KafkaClients(settings.bootstrap_servers, quiet(options_from(settings, f"{app}-instances")))
    announcer = Announcer(
        clients, app, settings.announce_interval, observer.light_status, replication=settings.replication_factor
    )
    observer.others, observer.changed = announcer.others, announcer.announce
    announcer.start()
    return announcer
