"""What the feed writes, and where."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from services.nexmark import feed
from services.nexmark.generator import Events
from services.nexmark.model import Bid
from services.writing import Written


def test_each_record_goes_to_its_topic_with_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[Written] = []

    def write(records: Iterable[Written], client: Any, **_: Any) -> int:
        taken.extend(records)
        return len(taken)

    monkeypatch.setattr(feed, "write", write)
    stamps: list[int] = []
    events = list(Events(50))
    assert feed.feed(events, {}, prefix="mine", stop=threading.Event(), stamps=stamps) == 50
    assert [one.topic for one in taken].count("mine-persons") == 1
    assert [one.topic for one in taken].count("mine-auctions") == 3
    for event, one in zip(events, taken, strict=True):
        value = json.loads(one.value)
        assert one.key == str(value["auction"] if isinstance(event, Bid) else value["id"]).encode()
    assert [one.timestamp for one in taken] == stamps == sorted(stamps)


def test_what_cannot_be_made_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["feed", "--rate", "20"])
    assert feed.main() == 2
    assert capsys.readouterr().err.startswith("feed: 200 records in any order at 20/s come more than 0:00:04 late")
