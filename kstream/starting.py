"""From a declared app to one that runs: its instance claimed, its topics made, its workers supervised or run here."""

from __future__ import annotations

import io
import logging
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kstream.aside import Aside
from kstream.clock import SystemClock
from kstream.config import Settings
from kstream.errors import ConfigError, IdentityInUse, InstanceFenced
from kstream.observe import logs
from kstream.runtime.cluster.control import refuse_unfinished_restore
from kstream.runtime.cluster.naming import Identity
from kstream.runtime.cluster.prepare import prepare_topics, tell
from kstream.runtime.cluster.records import looking
from kstream.runtime.cluster.regroup import take_offsets_along
from kstream.runtime.cluster.stored_types import check_types
from kstream.runtime.instance.caller import signals_to
from kstream.runtime.instance.claim import claim
from kstream.runtime.instance.savepoints import taking_part
from kstream.runtime.instance.scaling import Scaler, useful_workers, workers_of_each
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.instance.warming import Warming, both
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.early import beginning, drop
from kstream.runtime.process.program import Program
from kstream.runtime.process.report import taken_over
from kstream.state.choosing import check_durable
from kstream.topology import Topology

log = logging.getLogger(__name__)


@contextmanager
def supervised(
    program: Program, topology: Topology, settings: Settings, sources: Mapping[str, str]
) -> Iterator[Supervisor]:
    """The supervisor of an app, not started yet. Workers that still run at the end are killed.

    Args:
        program: what its workers load.
        sources: where each of `settings` comes from, for the status page.
    """
    # What serves the status page takes a tenth of a second: it is imported while Kafka is asked for the topics.
    threading.Thread(target=import_module, args=("kstream.web.instance",), name="imports", daemon=True).start()
    groups = groups_of(settings, topology)
    least, most = settings.worker_range or (workers_of_each(settings, groups),) * 2
    with beginning(least * len(groups)), prepared(settings, topology, groups) as (instance, partitions):
        for group in groups:
            if most > (useful := useful_workers(topology, partitions, group)):
                log.warning(
                    "%d workers in isolation group %s, but no input topic of it has more than %d partitions: "
                    "%d of them will have nothing to do", most, group, useful, most - useful,
                )  # fmt: skip
        from kstream.web.instance import observed

        supervisor = Supervisor(program, topology.app, instance, settings, partitions, least, groups)
        with (
            observed(supervisor, topology, settings, instance, sources) as observer,
            taking_part(supervisor, topology.app, instance, settings),
        ):
            if settings.worker_range:
                supervisor.scaler = observer.scaler = Scaler(
                    topology, partitions, groups, settings, least, most, observer.workers_elsewhere
                )
            if settings.warm:
                warming = Warming(topology, partitions, instance, settings.warm, observer.others)
                supervisor.scaler = both(supervisor.scaler, warming)
            try:
                yield supervisor
            finally:
                supervisor.kill()


def run_here(app: Any, topology: Topology, settings: Settings) -> int:
    """Runs one isolation group in this process until it is told to stop. Returns the exit status.

    Raises:
        ConfigError: the app has several groups, and none is chosen.
        ProcessingError: a record failed.
    """
    drop()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what user code prints is there at once, as in workers
    from kstream.runtime.process.making import make_worker  # half a second, which supervisors do without

    groups = groups_of(settings, topology)
    if len(groups) > 1:
        there = ", ".join(groups)
        raise ConfigError(f"workers=0 runs one isolation group, and the app has {there}: choose one with --group")
    with prepared(settings, topology, groups) as (instance, partitions):
        identity = Identity(topology.app, instance, 0, groups[0])
        worker = make_worker(app, identity, settings, partitions, raise_failures=True)
        aside = Aside()
        with signals_to(worker.stop):
            try:
                aside.call(worker.run)
                log.info("stopped")
            except InstanceFenced as error:
                raise IdentityInUse(taken_over(instance, str(error))) from error
            finally:
                aside.close()
    return 0


@contextmanager
def prepared(
    settings: Settings, topology: Topology, groups: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, int]]]:  # fmt: skip
    """The instance's name, held meanwhile, and the partition count of every topic, made where missing."""
    logs.hold_on()
    check_durable({store.name: store.backend for part in topology.parts for store in part.stores}, settings.snapshots)
    held = claim(Path(settings.state_dir), topology.app, settings.instance)
    logs.bind(instance=held.name)
    log.info(
        "app %s with kstream %s: instance %s on %s",
        topology.app, version("kstream"), held.name, settings.bootstrap_servers,
    )  # fmt: skip
    try:
        admin = KafkaClients(settings.bootstrap_servers, options_from(settings, topology.app)).admin()
        try:
            refuse_unfinished_restore(looking(settings, f"{topology.app}-control"), admin, topology.app)
            partitions = prepare_topics(topology, admin, settings)
            tell(topology, admin, partitions, settings)
            take_offsets_along(topology, groups, partitions, admin)
            check_types(
                topology, looking(settings, topology.app), admin, SystemClock(),
                replication=settings.replication_factor, go_on=settings.changed_types == "continue",
            )  # fmt: skip
        finally:
            admin.close()
        yield held.name, partitions
    finally:
        held.release()


def groups_of(settings: Settings, topology: Topology) -> tuple[str, ...]:
    """The isolation groups that this instance runs."""
    for name in set(settings.group_names).difference(topology.groups):
        there = ", ".join(topology.groups)
        raise ConfigError(f"groups: app {topology.app!r} has no isolation group {name!r}; it has {there}")
    return settings.group_names or tuple(topology.groups)
