"""Where the record of a dead letter goes back to."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kstream.runtime.cluster.dead_letters import Letter
from kstream.runtime.cluster.retention import days, kept, mending
from kstream.types import TopicPartition


class Routes:
    """Where records go back to.

    Args:
        inputs: the topics that the app reads.
        partitions: of each topic that there is.
        to: another topic for all of them.
        configs: Kafka's settings of topics, where they could be asked for.
        now: seconds since the epoch.
        ids: of topics, where brokers give them any.
    """

    def __init__(
        self,
        inputs: Collection[str],
        partitions: Mapping[str, int],
        to: str | None = None,
        configs: Mapping[str, Mapping[str, str]] | None = None,
        now: float = 0.0,
        ids: Mapping[str, str] | None = None,
    ) -> None:
        self.ids: Mapping[str, str] = ids or {}
        self._inputs, self._partitions, self._to = inputs, partitions, to
        self._configs, self._now = configs or {}, now

    def of(self, letter: Letter) -> TopicPartition | str:
        """The partition (-1: the one of the key), or why there is none."""
        if letter.refusal is not None:
            return letter.refusal
        if letter.result is not None:
            return (
                f"it is {letter.result}, and no record that was read: it cannot be processed again; write it where it "
                "belongs by hand (kstream dlq show --json), then purge it"
            )
        found = self._place(letter)
        return found if isinstance(found, str) else self._too_old(letter, found.topic) or found

    def _too_old(self, letter: Letter, topic: str) -> str | None:
        """Kafka deletes by a record's timestamp, which stays what it was: perhaps before anybody has read it."""
        config = self._configs.get(topic, {})
        if config.get("message.timestamp.type") == "LogAppendTime":
            return None
        if letter.row.timestamp >= self._now * 1000 - (have := kept(config)):
            return None
        return (
            f"{topic} keeps records for {days(have)} by their timestamps, and would delete older ones at once; "
            f"{mending(topic).partition(', or')[0]}"
        )

    def _place(self, letter: Letter) -> TopicPartition | str:
        """The partition that it came from, where there is one still, whatever the key says: the records of a key were
        there, and so is the state that belongs to them.
        """
        if self._to is not None:
            return TopicPartition(self._to, -1)
        source = letter.source
        if source is None:
            return "where they come from is not known: give --to"
        if source.topic not in self._inputs:  # anybody may write a letter; it must not choose where we write
            return f"{source.topic} is no input of the app: give --to"
        count = self._partitions.get(source.topic)
        if count is None:
            return f"there is no topic {source.topic} any more: give --to"
        return TopicPartition(source.topic, source.partition if source.partition < count else -1)
