"""Whether Kafka answers, asked before a worker is killed for what may be Kafka's fault.

On a thread: nobody waits for the brokers in the supervisor's loop.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from kstream.config import Settings

ASK_SECONDS: Final = 10.0
"""For how long an answer holds."""
PATIENCE: Final = 5.0
"""Seconds a broker has to answer."""

Ask = Callable[[float], bool]
"""Whether a broker answers within that many seconds. Takes no longer."""


class Answering:
    """See the module's text."""

    def __init__(self, ask: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask, self._clock = ask, clock
        self._asking = False
        self._found: tuple[float, bool] | None = None

    def look(self) -> bool | None:
        """What is known as of now; None: it is being asked. Never waits."""
        if self._found is not None and self._clock() - self._found[0] < ASK_SECONDS:
            return self._found[1]
        if not self._asking:
            self._asking = True
            threading.Thread(target=self._run, name="answering", daemon=True).start()
        return None

    def _run(self) -> None:
        try:
            self._found = self._clock(), self._ask(PATIENCE)
        finally:
            self._asking = False


def of_kafka(settings: Settings) -> Ask:
    """Asks the brokers of the settings."""

    def ask(seconds: float) -> bool:
        from kstream.errors import KStreamError
        from kstream.runtime.kafka import KafkaClients, options_from

        admin = KafkaClients(settings.bootstrap_servers, options_from(settings, "kstream")).admin()
        try:
            admin.topics(seconds)
        except KStreamError:
            return False
        finally:
            admin.close()
        return True

    return ask
