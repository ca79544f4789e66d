"""Settings as they may be seen: people's units, sources, no secrets."""

from __future__ import annotations

import dataclasses
import math

import pytest

from kstream.config import SECRET, Settings, about
from kstream.config.sources import resolve_settings
from kstream.observe.settings import setting_rows


@pytest.fixture(autouse=True)
def _nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [one for one in os.environ if one.startswith("KSTREAM_")]:
        monkeypatch.delenv(name)


def test_every_setting_once_in_order() -> None:
    rows = setting_rows(Settings(), {})
    assert [row.name for row in rows] == list(about())
    assert {row.source for row in rows} == {"default"}
    assert all(row.doc for row in rows)


def test_values_can_be_given_again(tmp_path: object) -> None:
    settings = Settings(commit_interval=0.15, memory=600 << 20, workers=3, web=False, linger=0.0125)
    given = {row.name: row.value for row in setting_rows(settings, {}) if row.value}
    assert (given["commit_interval"], given["memory"], given["web"]) == ("150ms", "600MiB", "false")
    again, _ = resolve_settings({}, given, None)
    assert again == settings
    assert dataclasses.asdict(again) == dataclasses.asdict(settings)


def test_secrets_are_hidden_and_keys_have_their_own_sources() -> None:
    settings, sources = resolve_settings(
        {"kafka": {"sasl.username": "me"}}, {"kafka.sasl.password": "hush", "web_token": "hush", "linger": "1s"}, None
    )
    rows = {row.name: row for row in setting_rows(settings, sources)}
    assert (rows["kafka.sasl.username"].value, rows["kafka.sasl.username"].source) == ("me", "App(...)")
    assert (rows["kafka.sasl.password"].value, rows["kafka.sasl.password"].source) == (SECRET, "command line")
    assert (rows["web_token"].value, rows["linger"].value, rows["linger"].source) == (SECRET, "1s", "command line")
    assert "kafka" not in rows and "hush" not in repr(rows)


@pytest.mark.parametrize(
    ("within", "value", "source"),
    [
        pytest.param({"default": math.inf}, "10s", "App(...)", id="no sink"),
        pytest.param({"default": 20.0}, "10s", "App(...)", id="longer"),
        pytest.param({"default": 5.0}, "5s", "timeout= of a sink", id="shorter"),
        pytest.param(
            {"default": math.inf, "slow": 5.0},
            "10s, 5s in isolation group slow",
            "App(...), timeout= of a sink",
            id="of one isolation group",
        ),
    ],
)
def test_the_commit_interval_is_the_one_that_workers_keep(within: dict[str, float], value: str, source: str) -> None:
    rows = setting_rows(
        Settings(commit_interval=10.0, transaction_timeout=60.0), {"commit_interval": "App(...)"}, within
    )
    assert [(row.value, row.source) for row in rows if row.name == "commit_interval"] == [(value, source)]
