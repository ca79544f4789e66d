"""An instance's part in savepoints: what is asked through the control topic is told to its workers, and what they
answer is written there.

None of it may disturb the service: when Kafka is away or refuses, a line is logged now and then, and it goes on trying.
What the workers hold they let go by themselves when their time is over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from kstream.config import Settings
from kstream.errors import KStreamError
from kstream.runtime.cluster.announce import quiet
from kstream.runtime.cluster.control import LONGEST_TIMEOUT, Answer, Control, Request, Unread, ensure_topic
from kstream.runtime.instance.supervisor import Supervisor
from kstream.runtime.kafka import KafkaClients, options_from
from kstream.runtime.process.handle import WorkerProcess
from kstream.runtime.process.report import Command
from kstream.types import Clients

log = logging.getLogger(__name__)

LISTEN_SECONDS: Final = 0.5
BUSY_SECONDS: Final = 0.02
"""How long a word is waited for, while nothing is to be said and while a savepoint is made."""
RETRY_SECONDS: Final = 10.0
AGAIN_SECONDS: Final = 0.2
"""The pause before the next attempt to connect; the second, while a savepoint is made."""
LOG_SECONDS: Final = 60.0


@dataclass
class _Known:
    """What was asked last for a savepoint, and until when (monotonic) it may be under way."""

    request: Request
    until: float

    def under_way(self, now: float) -> bool:
        return self.request.phase not in ("stop", "abort") and now < self.until


class Participant:
    """See the module's text. `heard`, `ended` and `tick` are the supervisor's; the rest is a thread of its own."""

    def __init__(self, supervisor: Supervisor, clients: Clients, app: str, instance: str, replication: int) -> None:
        self._supervisor, self._clients, self._app = supervisor, clients, app
        self._instance, self._replication = instance, replication
        self._to_say: deque[Answer] = deque()
        self._known: dict[str, _Known] = {}
        """By the ids of savepoints. Where somebody asks for another meanwhile, the workers refuse that one."""
        self._position: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="savepoints", daemon=True)
        self._logged = float("-inf")

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 2.0) -> None:
        """Takes `timeout` seconds at most: where Kafka is away, the thread is left to itself."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    # ---- told by the supervisor

    def heard(self, worker: WorkerProcess) -> None:
        self._to_say.extend(worker.report.savepoint)

    def ended(self, worker: WorkerProcess, reason: str) -> None:
        """Its successor holds nothing: there will be no savepoint."""
        why, now = f"its process ended ({reason})", time.monotonic()
        for one in list(self._known.values()):  # the thread may be adding one
            if one.under_way(now):
                self._to_say.append(Answer(one.request.id, worker.identity.member, "refused", why=why))

    def tick(self) -> None:
        return

    # ---- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connected() as control:
                    while not self._stopping.is_set():
                        self._converse(control)
                        self._position = control.position
            except Exception as error:  # a thread that only passes on must never be what ends
                self._note(error)
                self._stopping.wait(AGAIN_SECONDS if self._making else RETRY_SECONDS)

    @contextmanager
    def _connected(self) -> Iterator[Control]:
        with ExitStack() as stack:
            admin = self._clients.admin()
            stack.callback(admin.close)
            ensure_topic(admin, self._app, self._replication)
            control = Control(self._clients, admin, self._app, self._position if self._making else None)
            stack.callback(control.close)
            admin.close()
            yield control

    @property
    def _making(self) -> bool:
        now = time.monotonic()
        return any(one.under_way(now) for one in list(self._known.values()))

    def _converse(self, control: Control) -> None:
        for said in control.read(BUSY_SECONDS if self._making else LISTEN_SECONDS):
            if isinstance(said, Request):
                self._asked(said)
            elif isinstance(said, Unread) and said.phase == "hold":
                self._to_say.append(Answer(said.id, self._instance, "refused", why=said.why))
        while self._to_say:
            control.write(self._to_say[0])
            self._to_say.popleft()

    def _asked(self, request: Request) -> None:
        """Each worker passes over what is of another savepoint than it has a part in."""
        now = time.monotonic()
        if request.phase == "hold":
            self._known = {id: one for id, one in self._known.items() if now < one.until}
            self._known[request.id] = _Known(request, now + min(request.timeout, LONGEST_TIMEOUT))
            log.info("savepoint %s was requested, it has %.0f s", request.name, request.timeout)
        elif (known := self._known.get(request.id)) is None:
            return  # of a savepoint that began before this instance listened
        else:
            known.request = request
        if request.phase == "abort":
            log.warning("there is no savepoint %s: %s", request.name, request.why)
        if request.phase == "stop":
            log.info("savepoint %s is there: this instance stops, as was requested", request.name)
            self._supervisor.stop(for_good=True)  # all instances do, and a restore waits for their groups to be empty
        else:
            self._supervisor.tell(Command(savepoint=request))

    def _note(self, error: Exception) -> None:
        now = time.monotonic()
        if now - self._logged > LOG_SECONDS:
            self._logged = now
            log.warning(
                "this instance cannot take part in savepoints: %s", error,
                exc_info=None if isinstance(error, KStreamError) else error,
            )  # fmt: skip


@contextmanager
def taking_part(supervisor: Supervisor, app: str, instance: str, settings: Settings) -> Iterator[Participant]:
    """The instance takes part in savepoints until the block ends."""
    options = quiet(options_from(settings, f"{app}-control"))
    options = replace(options, raw={**options.raw, "consumer.fetch.wait.max.ms": "500", **settings.kafka})
    clients = KafkaClients(settings.bootstrap_servers, options)
    participant = Participant(supervisor, clients, app, instance, settings.replication_factor)
    supervisor.watchers.append(participant)
    participant.start()
    try:
        yield participant
    finally:
        participant.stop()
