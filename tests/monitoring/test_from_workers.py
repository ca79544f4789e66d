"""What workers tell, put to the rules: the alerts that a person should get, and no others.

Real workers on a Kafka in memory and a clock that is moved; promtool judges what Prometheus would have scraped.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import kstream
from kstream.observe import exposition
from kstream.observe.catalogue import CATALOGUE, PREFIX, Series
from kstream.observe.merging import Merged
from kstream.runtime.process.series import report_of
from kstream.runtime.process.sizes import StoreSizes
from kstream.runtime.worker.restraint import Restraint
from support.tools import tool
from unit.runtime.harness import Counting, Fleet

RULES = Path(__file__).parents[2] / "monitoring/rules/kstream.yml"
USED = frozenset(re.findall(rf"\b{PREFIX}\w+", RULES.read_text()))
TIMES = frozenset(PREFIX + one.name for one in CATALOGUE.values() if one.unit == "seconds since the epoch")
SCRAPED = 15  # seconds
MONTH = 30 * 86_400


class Scraped:
    """A fleet's worker as Prometheus sees it."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet, self.began = fleet, fleet.clock.time()
        self.scrapes = 0
        self._merged = Merged()
        self._series: dict[str, list[str]] = {}

    def minutes(self, minutes: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Lets time pass; `meanwhile` is done each second."""
        for _ in range(round(minutes * 60 / SCRAPED)):
            for _ in range(SCRAPED):
                meanwhile()
                self.fleet.step(seconds=1.0)
            self._scrape()

    def _scrape(self) -> None:
        (worker,) = self.fleet.workers.values()
        self._merged.update("0", report_of(worker, StoreSizes(self.fleet.clock.monotonic)).metrics)
        settings = self.fleet.settings  # what the instance adds
        objective = Series("latency_objective_seconds", (), settings.commit_interval + settings.latency_objective)
        about = Series("build_info", ("a", "1", "3", "2"), 1)
        self._merged.update("supervisor", [about, objective, Series("workers", ("running",), 1)])
        there = {'up{job="kstream", instance="a"}': 1.0}
        for family in text_string_to_metric_families(exposition.text(self._merged, "app").decode()):
            for sample in family.samples:
                if sample.name in USED:
                    labels = {"job": "kstream", "instance": "a", **sample.labels}
                    name = ", ".join(f'{label}="{value}"' for label, value in labels.items())
                    value = sample.value - self.began if sample.name in TIMES and sample.value else sample.value
                    there[f"{sample.name}{{{name}}}"] = value
        for name in there.keys() - self._series.keys():
            self._series[name] = ["_"] * self.scrapes
        for name, values in self._series.items():
            gone = "stale" if values and values[-1] not in ("_", "stale") else "_"
            values.append(repr(there[name]) if name in there else gone)
        self.scrapes += 1

    def fires(self, expected: Mapping[int, set[str]], directory: Path) -> None:
        """Raises AssertionError, with what promtool says, where others fire at these minutes."""
        checks = [
            {
                "expr": 'group by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(alerts)],
            }
            for minute, alerts in expected.items()
        ]
        series = [{"series": name, "values": " ".join(values)} for name, values in self._series.items()]
        test = {"interval": f"{SCRAPED}s", "input_series": series, "promql_expr_test": checks}
        file = directory / "from-workers.yml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": [test]}))
        said = subprocess.run(
            [tool("promtool"), "test", "rules", file], capture_output=True, text=True, check=False, timeout=300
        )
        assert said.returncode == 0, said.stdout + said.stderr


def test_a_task_that_fails_is_told_and_the_one_beside_it_is_not(tmp_path: Path) -> None:
    app = kstream.App("app")
    good, bad = (app.topic(name, key=str, value=int) for name in ("good", "bad"))

    def fails(value: int) -> int:
        raise ValueError("planned")

    app.stream(bad).map(fails).to(app.topic("out", key=str, value=int))
    app.stream(good).to(app.topic("other", key=str, value=int))
    fleet = Fleet(app, tmp_path, partitions=1)
    fleet.start("a")
    scraped = Scraped(fleet)
    scraped.minutes(5, lambda: fleet.send(good, ["k"]))
    fleet.send(bad, ["k"])
    scraped.minutes(25, lambda: fleet.send(good, ["k"]))
    fleet.close()
    scraped.fires({4: set(), 9: set(), 12: {"TaskFailed"}, 29: {"TaskFailed", "TimeBehind"}}, tmp_path)


def test_what_stands_still_is_told(tmp_path: Path) -> None:
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=2)
    worker = fleet.start("a")
    scraped = Scraped(fleet)
    scraped.minutes(5, lambda: fleet.send(counting.source, ["k1", "k2"]))
    worker.paused = True
    fleet.send(counting.source, ["k1", "k2"])
    scraped.minutes(25)
    worker.paused = False
    scraped.minutes(15)
    fleet.close()
    stands = {"TaskStalled", "TimeBehind"}
    scraped.fires({4: set(), 9: set(), 13: {"TaskStalled"}, 29: stands, 44: set()}, tmp_path)


def test_a_replay_of_old_data_is_not(tmp_path: Path) -> None:
    """Half an hour of it, at full load, all of a month ago; then what is new comes, and is not late."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path, partitions=1, poll_batch=10)
    topic, old = counting.source, round((fleet.clock.time() - MONTH) * 1000)
    for n in range(18_000):
        fleet.cluster.append(topic.name, topic.key.codec.encode(f"k{n % 100}"), b"1", timestamp=old + n)
    worker = fleet.start("a")
    scraped = Scraped(fleet)
    scraped.minutes(20)
    assert worker.records < 18_000, "it was too short"
    scraped.minutes(25, lambda: fleet.send(topic, ["k"]))
    assert worker.records > 18_000
    fleet.close()
    scraped.fires({minute: set() for minute in range(1, 45)}, tmp_path)


@pytest.mark.more
def test_a_restore_that_moves_is_a_warning_and_no_page(tmp_path: Path) -> None:
    """For 22 minutes, while records come: they wait for long, and they are more and more."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path / "state", partitions=1, backend="rocksdb")
    fleet.start("z")
    fleet.send(counting.source, [f"k{n}" for n in range(1500)])
    fleet.settle()
    fleet.leave("z")
    shutil.rmtree(tmp_path / "state")
    worker = fleet.start("a")
    worker.restorer.restraint = Restraint(fleet.clock, 1.0, 1)  # a byte a second
    scraped = Scraped(fleet)
    scraped.minutes(22, lambda: fleet.send(counting.source, ["k"]))
    assert worker.restorer.stages(), "it was too short"
    worker.restorer.restraint = Restraint(fleet.clock, 1.0, None)
    scraped.minutes(16, lambda: fleet.send(counting.source, ["k"]))
    assert not worker.restorer.stages()
    fleet.close()
    slow = {"RestoreSlow"}
    scraped.fires({9: set(), 14: set(), 17: slow, 21: slow, 28: set(), 37: set()}, tmp_path)


class Killed(BaseException):
    pass


def test_a_restore_that_does_not_move_is_told(tmp_path: Path) -> None:
    """A transaction of its predecessor is open at the end of the changelog, and stays so."""
    counting = Counting()
    fleet = Fleet(counting.app, tmp_path / "state", partitions=1, backend="rocksdb")
    fleet.start("z")
    fleet.send(counting.source, [f"k{n}" for n in range(30)])
    fleet.settle()
    fleet.send(counting.source, [f"k{n}" for n in range(30)])
    fleet.cluster.fail_next("send_offsets", Killed())
    with pytest.raises(Killed):
        fleet.step("z", times=3, seconds=0.5)
    fleet.crash("z")
    fleet.expire("z")
    shutil.rmtree(tmp_path / "state")
    fleet.start("a")
    scraped = Scraped(fleet)
    scraped.minutes(20)
    fleet.cluster.time_out_transaction(fleet.identity("z").member)
    scraped.minutes(15)
    counting.check(fleet)
    fleet.close()
    scraped.fires({9: set(), 12: {"RestoreStuck"}, 19: {"RestoreStuck", "RestoreSlow"}, 34: set()}, tmp_path)
