"""How many bytes Kafka would have taken, for what is said of a task that stopped because a record was too large.

A broker that refuses a batch does not say its limit: the topic's settings are asked for it, in one question a failure.
"""

from __future__ import annotations

import logging
from typing import Final

from kstream.config import Settings
from kstream.errors import KStreamError
from kstream.operators.refusals import AROUND
from kstream.runtime.cluster.sizes import SETTING
from kstream.runtime.kafka import largest_sent
from kstream.runtime.task.lost_topics import refusal_in
from kstream.runtime.task.verdicts import TOO_LARGE
from kstream.types import AdminClient

log = logging.getLogger(__name__)

ASK_SECONDS: Final = 1.0
"""How long the answer is waited for. The other tasks wait too, and the error is true without it."""


class SizeLimits:
    """Of one worker."""

    def __init__(self, admin: AdminClient, settings: Settings) -> None:
        self._admin, self._sent = admin, largest_sent(settings.kafka)

    def add_to(self, error: KStreamError) -> None:
        """The limit goes into the error's text, where that is why it was raised and the limit can be known."""
        refused = refusal_in(error)
        if refused is None or refused.code not in TOO_LARGE:
            return
        if refused.size + AROUND > self._sent:
            limit = f"the producer takes {self._sent:,} bytes (kafka.message.max.bytes)"
        else:
            try:
                most = self._admin.topic_configs([refused.topic], ASK_SECONDS)[refused.topic][SETTING]
            except (KStreamError, KeyError) as unknown:  # this user may lack the right to ask
                log.debug("the limit of topic %s cannot be read: %r", refused.topic, unknown)
                return
            limit = f"topic {refused.topic} takes {int(most):,} bytes a batch, compressed ({SETTING})"
        error.args = (f"{error}; {limit}", *error.args[1:])
