"""`kstream topics` on a real Kafka: what is missing or wrong, and that what it makes a service takes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.kafka import create, ends
from support.running import Command

SERVICE = """
import kstream

app = kstream.App({name!r})
lines = app.topic("{name}.lines", key=str, value=str)
counts = app.topic("{name}.counts", key=str, value=int, partitions=2)
app.stream(lines).group_by(lambda line: line, key=str, name="by-line", parallelism=6).count(name="seen").to(counts)
app.stream(lines).group_by_key().count(name="per-key")
"""

Topics = Callable[..., tuple[int, Any]]


@pytest.fixture
def app(tmp_path: Path) -> str:
    name = f"topics-{uuid.uuid4().hex[:8]}"
    (tmp_path / "service.py").write_text(SERVICE.format(name=name))
    return name


@pytest.fixture
def topics(app: str, bootstrap_servers: str, tmp_path: Path) -> Topics:
    def run(*arguments: str, **environment: str) -> tuple[int, Any]:
        """Exit status, and what was said: JSON by topic, or text."""
        directory = tmp_path / f"said-{len(list(tmp_path.iterdir()))}"
        environment.setdefault("KSTREAM_BOOTSTRAP_SERVERS", bootstrap_servers)
        environment.setdefault("COLUMNS", "200")
        command = Command(directory, "topics", "service:app", *arguments, cwd=tmp_path, **environment)
        status = command.wait(100)
        said = command.out.read_text()
        if "--json" not in arguments:
            return status, said + command.err.read_text()
        found = json.loads(said)
        return status, {one.pop("name").removeprefix(app): one for one in found["topics"]} | {"all": found}

    return run


def test_all_are_missing_then_made_then_found(app: str, topics: Topics, bootstrap_servers: str) -> None:
    status, text = topics()
    assert status == 1 and "8 topics: 8 missing" in text and "kstream topics --create makes them" in text

    # that it is asked for goes before the setting with which the service itself would make none
    status, made = topics("--create", "--json", KSTREAM_AUTO_CREATE_TOPICS="false", KSTREAM_DEFAULT_PARTITIONS="3")
    assert status == 0
    assert {name: (one["kind"], one["partitions"]) for name, one in made.items() if name != "all"} == {
        ".lines": ("source", 3),
        ".counts": ("sink", 2),
        "-by-line-repartition": ("repartition", 6),
        "-seen-changelog": ("changelog", 6),
        "-per-key-changelog": ("changelog", 3),
        "-store-types": ("types", 1),
        "-instances": ("instances", 1),
        "-control": ("control", 1),
    }
    assert {one["state"] for name, one in made.items() if name != "all"} == {"created"}
    assert {one["replicas"] for name, one in made.items() if name != "all"} == {1}
    assert len(ends(bootstrap_servers, f"{app}-by-line-repartition")) == 6

    status, text = topics("--create")
    assert status == 0 and "8 topics: 8 found" in text


def test_only_what_is_missing_is_made_and_it_takes_after_what_is_there(
    app: str, topics: Topics, bootstrap_servers: str
) -> None:
    create(bootstrap_servers, f"{app}.lines", 5)
    status, found = topics("--json", "--set", "announce_interval=0")
    assert status == 1
    assert (found[".lines"]["state"], found[".lines"]["wanted"]) == ("found", None)  # any number will do
    assert (found["-per-key-changelog"]["state"], found["-per-key-changelog"]["wanted"]) == ("missing", 5)
    assert "-instances" not in found
    status, made = topics("--create", "--json")
    assert status == 0
    assert {name for name, one in made.items() if name != "all" and one["state"] == "found"} == {".lines"}
    assert made["-per-key-changelog"]["partitions"] == 5


def test_what_is_wrong_is_told_and_nothing_is_made(app: str, topics: Topics, bootstrap_servers: str) -> None:
    create(bootstrap_servers, f"{app}.counts", 3)  # declared are 2
    create(bootstrap_servers, f"{app}-seen-changelog", 6)  # not compacted
    status, text = topics("--create")
    assert status == 1
    assert f"topic {app}.counts (sink of {app}) has 3 partitions, but 2 are declared: change the declaration" in text
    assert "cleanup.policy=delete" in text and "kafka-configs.sh --alter" in text
    assert "2 missing" not in text and "8 topics: 6 missing, 2 wrong" in text and "--create makes" not in text
    status, found = topics("--json")
    assert status == 1 and found[".lines"]["state"] == "missing", "nothing was made"


def test_inputs_that_do_not_fit_together_are_told(bootstrap_servers: str, tmp_path: Path, topics: Topics) -> None:
    name = f"topics-{uuid.uuid4().hex[:8]}"
    (tmp_path / "service.py").write_text(
        f"""
import kstream

app = kstream.App({name!r})
one, two = (app.topic(f"{name}.{{n}}", key=str, value=str) for n in (1, 2))
seen = app.table("seen", key=str, value=int, default=int)

@app.agent(one)
def first(line: str) -> None:
    seen[line] += 1

@app.agent(two)
def second(line: str) -> None:
    seen[line] += 1
"""
    )
    create(bootstrap_servers, f"{name}.1", 2)
    create(bootstrap_servers, f"{name}.2", 3)
    status, text = topics()
    assert status == 1 and "must have equal partition counts" in text and f"{name}.2 has 3" in text
