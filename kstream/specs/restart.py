"""What is done about a worker or a task that fails: restart strategies, with Flink's names and meaning.

Every worker of an instance, and every task of a worker, counts its own failures. Where a strategy is exhausted, the
instance stops with exit status 1 and says why. Durations are seconds, or a timedelta.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

from kstream.backoff import Pauses
from kstream.config import Settings, about
from kstream.config.hiding import shown
from kstream.errors import ConfigError


@dataclass(frozen=True)
class RestartStrategy:
    """One of those below; not for use by itself.

    Raises:
        ConfigError: a value is not acceptable.
    """

    setting: ClassVar[str]
    """The value of `restart_strategy` that chooses it."""
    names: ClassVar[Mapping[str, str]]
    """The setting that each field is, in order."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            try:
                object.__setattr__(self, one.name, about()[self.names[one.name]].parse(value))
            except ValueError as error:
                said = f"{type(self).__name__}({one.name}={shown(one.name, value)})"
                raise ConfigError(f"{said}: {one.name} {error}") from None

    def settings(self) -> dict[str, Any]:
        """The strategy as settings of kstream, by name."""
        return {
            "restart_strategy": self.setting,
            **{self.names[one.name]: getattr(self, one.name) for one in fields(self)},
        }

    def pauses(self, random: Callable[[], float] = random.random) -> Pauses:
        """Of one thing that may fail. `random` gives numbers from 0 to 1, for jitter."""
        raise NotImplementedError

    def spent(self) -> str:
        """Why it restarts no more, where it is exhausted."""
        raise NotImplementedError

    def words(self) -> str:
        """What ends a message about something that is given up."""
        return f"restart strategy {self.setting}: {self.spent()}"


@dataclass(frozen=True)
class FixedDelay(RestartStrategy):
    """Tries again a number of times, each after the same pause (Flink's `fixed-delay`).

    Args:
        attempts: restarts in the life of the instance (a worker's) or of the worker (a task's); None is no limit.
        delay: the pause before each.
    """

    attempts: int | None
    delay: float = 1.0

    setting = "fixed-delay"
    names = {"attempts": "restart_attempts", "delay": "restart_delay"}  # noqa: RUF012

    def pauses(self, random: Callable[[], float] = random.random) -> Pauses:
        return Pauses(self.delay, attempts=self.attempts)

    def spent(self) -> str:
        return f"its {_restarts(self.attempts)} used up"


@dataclass(frozen=True)
class ExponentialDelay(RestartStrategy):
    """Tries again after pauses that grow: max(initial, min(initial x multiplier^n +- jitter, max)) (Flink's
    `exponential-delay`).

    Args:
        initial: the pause before the first restart, and the shortest.
        max: the longest pause.
        multiplier: by which it grows.
        reset_after: the time since the last restart after which a failure counts as the first.
        jitter: the part of a pause by which it is longer or shorter at random.
        attempts: restarts until it begins anew after a quiet time; None is no limit.
    """

    initial: float = 1.0
    max: float = 60.0
    multiplier: float = 2.0
    reset_after: float = 600.0
    jitter: float = 0.1
    attempts: int | None = None

    setting = "exponential-delay"
    names = {  # noqa: RUF012
        "initial": "restart_initial",
        "max": "restart_max",
        "multiplier": "restart_multiplier",
        "reset_after": "restart_reset_after",
        "jitter": "restart_jitter",
        "attempts": "restart_attempts",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max < self.initial:
            raise ConfigError(f"ExponentialDelay: max={self.max:g} is less than initial={self.initial:g}")

    def pauses(self, random: Callable[[], float] = random.random) -> Pauses:
        return Pauses(
            self.initial, self.multiplier, self.max, self.reset_after,
            jitter=self.jitter, attempts=self.attempts, random=random,
        )  # fmt: skip

    def spent(self) -> str:
        return f"its {_restarts(self.attempts)} used up, with less than {self.reset_after:g} s between them"


@dataclass(frozen=True)
class FailureRate(RestartStrategy):
    """Tries again after the same pause, unless it fails too often (Flink's `failure-rate`).

    Args:
        max_failures: failures that may fall within `interval`; with one more it is given up.
        delay: the pause before each restart.
    """

    max_failures: int = 1
    interval: float = 60.0
    delay: float = 1.0

    setting = "failure-rate"
    names = {  # noqa: RUF012
        "max_failures": "restart_max_failures",
        "interval": "restart_failure_interval",
        "delay": "restart_delay",
    }

    def pauses(self, random: Callable[[], float] = random.random) -> Pauses:
        return Pauses(self.delay, most=self.max_failures, interval=self.interval)

    def spent(self) -> str:
        return f"more than {self.max_failures} failure{'s' * (self.max_failures != 1)} within {self.interval:g} s"


@dataclass(frozen=True)
class NoRestart(RestartStrategy):
    """The first failure of a worker or a task stops the instance (Flink's `none`)."""

    setting = "none"
    names = {}  # noqa: RUF012

    def pauses(self, random: Callable[[], float] = random.random) -> Pauses:
        return Pauses(0.0, attempts=0)

    def spent(self) -> str:
        return "nothing is restarted"


_STRATEGIES = (ExponentialDelay, FixedDelay, FailureRate, NoRestart)


def strategy_of(settings: Settings) -> RestartStrategy:
    """The restart strategy that the settings say."""
    kind = next(one for one in _STRATEGIES if one.setting == settings.restart_strategy)
    given = {name: getattr(settings, setting) for name, setting in kind.names.items()}
    return cast("type[Any]", kind)(**given)  # type: ignore[no-any-return]


def overrides_of(restart: RestartStrategy, settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings of `App(..., restart=restart, **settings)`.

    Raises:
        ConfigError: it is no strategy, or is given twice.
    """
    if not isinstance(restart, RestartStrategy):
        raise ConfigError(
            f"restart: {restart!r} is none of kstream.{', kstream.'.join(one.__name__ for one in _STRATEGIES)}"
        )
    twice = [name for name in settings if name.startswith("restart_")]
    if twice:
        raise ConfigError(f"restart: {', '.join(twice)} beside restart={restart!r}: give the App one of them")
    return {**restart.settings(), **settings}


def _restarts(attempts: int | None) -> str:
    return f"{attempts} restart{' is' if attempts == 1 else 's are'}"
