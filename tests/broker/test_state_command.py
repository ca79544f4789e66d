"""`kstream state`: what stores hold, of a running instance and of its directory once it is stopped."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kstream.cli import main
from kstream.partitioning import partition_of
from kstream.state.savepoint import damages_of, read_savepoint
from kstream.state.snapshots.storage import open_storage
from support.observing import Service, Services, running, services
from support.running import Command, until
from support.serving import Served

pytestmark = pytest.mark.timeout(400)  # some twenty commands, each a process

ON = {"state_queries": True, "web_token": "one-for-all"}
TARGET = "broker.observed_service:app"


@pytest.fixture
def service(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    yield from services(bootstrap_servers, tmp_path, monkeypatch)


class Asked:
    def __init__(self, app: Service, directory: Path) -> None:
        self.app, self.directory, self.number = app, directory, 0

    def __call__(self, *arguments: str) -> tuple[int, list[Any], str]:
        """Status, lines of JSON, and standard error."""
        self.number += 1
        environment = {name: os.environ[name] for name in ("KSTREAM_TEST_APP", "KSTREAM_TEST_PARTITIONS")}
        command = Command(self.directory / str(self.number), "state", *arguments, "--json", **environment)
        status = command.wait(60)
        out = command.out.read_text()
        return status, parsed(out), command.err.read_text()


class AskedHere:
    """The same in this process, where nothing runs that says something meanwhile."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, list[Any], str]:
        self.capsys.readouterr()
        sys.modules.pop(TARGET.partition(":")[0], None)  # its app has this test's name
        status = main(["state", *arguments, "--json"])
        out, err = self.capsys.readouterr()
        return status, parsed(out), err


def parsed(out: str) -> list[Any]:
    return json.loads(out) if out.startswith("[") else [json.loads(line) for line in out.splitlines()]


Ask = Callable[..., tuple[int, list[Any], str]]


def check(asked: Ask, where: list[str], app: Service) -> None:
    """What is the same of a running instance and a stopped one."""
    status, rows, _ = asked("ls", TARGET, *where)
    assert status == 0
    counts, groups = rows
    assert (counts["store"], counts["partitions"], counts["key"], counts["value"]) == ("counts", 4, "str", "int")
    assert groups["store"] == "per-group" and counts["bytes"] > 0
    home = partition_of(b"k7", 4)
    assert asked("get", TARGET, "counts", "k7", *where)[:2] == (0, [{"key": "k7", "value": 10, "partition": home}])
    status, entries, _ = asked("get", TARGET, "counts", "--prefix", "k9", "--limit", "100", *where)
    assert status == 0 and {one["key"]: one["value"] for one in entries} == {f"k{n}": 10 for n in (9, *range(90, 97))}
    assert len(asked("get", TARGET, "counts", "--limit", "30", *where)[1]) == 30
    status, entries, said = asked("get", TARGET, "counts", "nobody", *where)
    assert (status, entries) == (1, []) and "has no key nobody" in said
    status, _, said = asked("get", TARGET, "nothing", "k7", *where)
    assert status == 2 and "has no store 'nothing'" in said and said.count("\n") == 1
    status, (top,), _ = asked("top", TARGET, "counts", "--count", "3", *where)
    assert status == 0 and len(top["largest"]) == 3 and top["largest"][0][1] == 5


def test_the_same_of_a_running_instance_and_of_its_directory(
    service: Services, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    app = service()
    a: Served = app.start("a", **ON)
    running(a)
    app.feed(970)
    app.all_done(a)
    asked = Asked(app, tmp_path / "commands")
    until(lambda: all(store.entries for store in a.status().stores), "sizes to be reported")
    check(asked, ["--url", a.url, "--token", "one-for-all"], app)
    status, _, said = asked("ls", TARGET, "--state-dir", str(tmp_path / "a"))
    assert status == 2 and "instance 'a' runs on" in said and "--url" in said
    hottest = {store.name: store.hottest for store in a.status().stores}
    assert hottest["per-group"][0][0].startswith("'g")
    a.stop()
    where = ["--state-dir", str(tmp_path / "a")]
    here = AskedHere(capsys)
    check(here, where, app)
    query = "select value, count(*) as many, min(partition) as first from counts group by value"
    assert here("sql", TARGET, query, *where)[:2] == (0, [{"value": 10, "many": 97, "first": 0}])
    query = 'select sum(c.value) as one, (select sum(value) from "per-group") as other from counts c'
    assert here("sql", TARGET, query, *where)[1] == [{"one": 970, "other": 970}]
    status, _, said = here("sql", TARGET, "select * from nothing", *where)
    assert status == 2 and "the tables are: counts, per-group" in said
    status, _, said = here("sql", TARGET, "select * from read_text('/etc/passwd')", *where)
    assert status == 2 and "root" not in said
    status, _, said = here("ls", TARGET, "--state-dir", str(tmp_path / "none"))
    assert status == 2 and "there is no state in" in said


def test_of_a_task_that_two_workers_have_had_the_latest_counts(service: Services, tmp_path: Path) -> None:
    app = service(2)
    a = app.start("a", workers=2, **ON)
    running(a)
    app.feed(97)
    app.all_done(a)
    a.stop()
    a = app.start("a", workers=1, **ON)  # its one worker takes over what the other had
    running(a)
    app.feed(97)
    app.fed = 97  # that this one has done
    app.all_done(a)
    a.stop()
    asked = Asked(app, tmp_path / "commands")
    status, rows, _ = asked("get", TARGET, "counts", "--limit", "1000", "--state-dir", str(tmp_path / "a"))
    assert status == 0 and {row["key"]: row["value"] for row in rows} == {f"k{n}": 2 for n in range(97)}


def test_snapshots_and_savepoints_are_asked_in_sql(service: Services, tmp_path: Path) -> None:
    app, kept = service(2), tmp_path / "snapshots"
    a = app.start("a", **ON, snapshots=str(kept), snapshot_interval=0.5, snapshot_min_pause=0.1)
    running(a)
    app.feed(97)
    app.all_done(a)
    asked = Asked(app, tmp_path / "commands")
    where = ["--snapshots", "--set", f"snapshots={kept}"]
    query = "select count(*) as many, sum(value) as sum, count(distinct partition) as parts from counts"
    want = (0, [{"many": 97, "sum": 97, "parts": 2}])
    until(lambda: asked("sql", TARGET, query, *where)[:2] == want, "snapshots of all of it", 60)
    assert asked("sql", TARGET, query, *where)[:2] == want  # while it runs
    status, _, said = asked("sql", TARGET, query, "--snapshots", "--set", f"snapshots={tmp_path / 'none'}")
    assert status == 2 and "there are no snapshots" in said
    create = Command(
        tmp_path / "create", "savepoint", "create", TARGET, "one", "--to", str(tmp_path / "saved"),
        "--bootstrap-servers", a.settings.bootstrap_servers,
        **{name: os.environ[name] for name in ("KSTREAM_TEST_APP", "KSTREAM_TEST_PARTITIONS")},
    )  # fmt: skip
    assert create.wait(90) == 0, create.err.read_text()
    where = ["--savepoint", "one", "--place", str(tmp_path / "saved")]
    assert asked("sql", TARGET, query, *where)[:2] == want
    assert asked("sql", TARGET, query, "--savepoint", "two", "--place", str(tmp_path / "saved"))[0] != 0
    status, _, said = asked("sql", TARGET, query, "--state-dir", str(tmp_path / "a"))
    assert status == 2 and "instance 'a' runs on" in said and "--snapshots" in said and "--url" not in said


def test_a_savepoint_that_the_page_asks_for(service: Services, tmp_path: Path) -> None:
    """Of two instances, asked of one of them; it has all of the app, and is what the command's would be."""
    app = service(2)
    a, b = (app.start(name, **ON, savepoints=str(tmp_path / "saved")) for name in "ab")
    running(a, b)
    app.feed(97)
    app.all_done(a, b)
    status, body = a.ask("/api/savepoints", {"name": "from-the-page"})
    assert status == 202 and json.loads(body)["state"] == "making"
    assert b.ask("/api/savepoints", {}, token=False)[0] == 401
    until(lambda: a.status().savepoints[-1].state != "making", "its end", 90)
    (told,) = a.status().savepoints
    assert (told.state, told.error, told.name) == ("made", None, "from-the-page"), told
    assert any("go on" in step or "goes on" in step for step in told.steps)
    app.feed(97)
    app.all_done(a, b)
    a.stop(), b.stop()
    storage = open_storage(str(tmp_path / "saved"))
    saved = read_savepoint(storage, "from-the-page")
    assert not list(damages_of(storage, saved)) and told.size == saved.size and told.tasks == len(saved.tasks)
    asked = Asked(app, tmp_path / "commands")
    query = "select count(*) as many, sum(value) as sum, count(distinct partition) as parts from counts"
    where = ["--savepoint", "from-the-page", "--place", str(tmp_path / "saved")]
    assert asked("sql", TARGET, query, *where)[:2] == (0, [{"many": 97, "sum": 97, "parts": 2}])
