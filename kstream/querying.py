"""From a declared app to one that is asked: where its instances are, and the token they share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from kstream.config import Settings
from kstream.errors import ConfigError
from kstream.runtime.cluster.announce import quiet, read_instances
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.specs.store import StoreSpec
from kstream.topology import Topology
from kstream.web.client import AsyncQuery, Query
from kstream.web.signing import key_of
from kstream.web.tls import trusting
from kstream.web.token import FILE

FIND_SECONDS: Final = 10.0


def query(topology: Topology, settings: Settings, urls: Sequence[str], timeout: float) -> Query:
    """See `App.query`."""
    return Query(_maker(topology, settings, urls, timeout))


def async_query(topology: Topology, settings: Settings, urls: Sequence[str], timeout: float) -> AsyncQuery:
    """See `App.async_query`."""
    return _maker(topology, settings, urls, timeout)()


def _maker(topology: Topology, settings: Settings, urls: Sequence[str], timeout: float) -> Callable[[], AsyncQuery]:
    stores: dict[str, StoreSpec] = {store.name: store for part in topology.parts for store in part.stores}
    stores |= {table.name: table for table in topology.tables}
    key, tls = key_of(_token(settings), topology.app), trusting(settings.web_tls_ca)

    def find() -> Sequence[str]:
        if urls:
            return urls
        clients = KafkaClients(settings.bootstrap_servers, quiet(options_from(settings, f"{topology.app}-query")))
        found = read_instances(clients, topology.app, FIND_SECONDS)
        return [one.url for one in found if one.url is not None and one.state != "silent"]

    return lambda: AsyncQuery(stores, find, key, timeout, tls)


def _token(settings: Settings) -> str:
    """That of the settings, or of an instance on this machine whose state directory this is."""
    kept = Path(settings.state_dir) / FILE
    try:
        token = settings.web_token or (kept.read_text(encoding="ascii").strip() if kept.is_file() else "")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"the token file {kept} cannot be read ({error}): set web_token") from None
    if not token:
        raise ConfigError("web_token: which token do the app's instances have? set the same one for them and here")
    return token
