"""Restart strategies as they are declared, and as settings."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path

import pytest

import kstream
from kstream.config import Settings
from kstream.config.sources import resolve_settings
from kstream.errors import ConfigError
from kstream.specs.restart import RestartStrategy, strategy_of

STRATEGIES = [
    kstream.ExponentialDelay(2, 30, 3.0, 100, 0.5, 7),
    kstream.FixedDelay(3, 5.0),
    kstream.FailureRate(3, 60.0, 2.0),
    kstream.NoRestart(),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda one: type(one).__name__)
def test_a_strategy_is_the_settings_it_stands_for(strategy: RestartStrategy) -> None:
    assert strategy_of(Settings(**kstream.App("a", restart=strategy).overrides)) == strategy
    with pytest.raises(FrozenInstanceError):
        strategy.other = 1  # type: ignore[attr-defined]


def test_the_default_is_the_exponential_one() -> None:
    assert strategy_of(Settings()) == kstream.ExponentialDelay()
    assert kstream.App("a", workers=1).overrides == {"workers": 1}


def test_durations_may_have_units() -> None:
    assert kstream.FixedDelay(3, timedelta(minutes=1)) == kstream.FixedDelay(3, 60.0)  # type: ignore[arg-type]
    assert kstream.FailureRate(3, "5m", "10s") == kstream.FailureRate(3, 300.0, 10.0)  # type: ignore[arg-type]


def test_settings_go_before_the_app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KSTREAM_RESTART_DELAY", "9s")
    app = kstream.App("a", restart=kstream.FixedDelay(3, 5.0))
    settings, sources = resolve_settings(app.overrides, {}, None)
    assert strategy_of(settings) == kstream.FixedDelay(3, 9.0)
    assert sources["restart_strategy"] == "App(...)"
    settings, _ = resolve_settings(app.overrides, {"restart_strategy": "none"}, None)
    assert strategy_of(settings) == kstream.NoRestart()


def test_what_is_no_strategy_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ConfigError, match=r"FixedDelay\(attempts=-1\): attempts is not a whole number of 0 or more"):
        kstream.FixedDelay(-1, 1.0)
    with pytest.raises(ConfigError, match=r"FailureRate\(delay='soon'\): delay is not"):
        kstream.FailureRate(1, 60.0, "soon")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max=1 is less than initial=2"):
        kstream.ExponentialDelay(2, 1)
    with pytest.raises(ConfigError, match=r"restart: 'none' is none of kstream\.ExponentialDelay"):
        kstream.App("a", restart="none")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="restart: restart_max beside restart="):
        kstream.App("a", restart=kstream.NoRestart(), restart_max=3)
