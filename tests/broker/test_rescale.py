"""Apps moved to another number of partitions on a real Kafka: each record counts once, before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kstream.runtime.cluster.records import looking
from support.running import until
from support.saving import Place, places


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from places(bootstrap_servers, tmp_path, monkeypatch, partitions=4, words=60)


def partitions(place: Place) -> dict[str, int]:
    """By the ends of the topics' names."""
    return {name.removeprefix(place.name).lstrip(".-"): count for name, count in place.counts().items()}


def add_partitions(place: Place, count: int) -> None:
    admin = looking(place.settings, "test").admin()
    admin.add_partitions({place.source: count}, 60)
    admin.close()


def stopped(place: Place) -> None:
    for one in place.running:
        assert one.wait() == 0, one.err.read_text()
    place.running.clear()


def test_4_12_6_while_records_come(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Two instances that run; it stops them, and they go on with more and with fewer tasks."""
    place.start_two()
    place.send(600)
    for count in (12, 6):
        with place.sending():
            assert place.rescale(count, "--only", "per-word") == 0, place.said
        stopped(place)
        now = partitions(place)
        assert (now["words"], now["by-word-repartition"], now["per-word-changelog"]) == (4, count, count)
        place.run("one"), place.run("two")
        place.send(600)
        place.exact()
        assert f"by-word-repartition ({count})" in place.said
    assert "savepoint rescale-2 is in" not in capsys.readouterr().out
    place.stop()


@pytest.mark.slow
def test_an_input_that_grows_and_one_that_grew_while_the_app_ran(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.start_two()
    place.send(600)
    place.exact()
    assert place.rescale(12) == 2
    assert "--grow-inputs" in capsys.readouterr().err
    assert place.rescale(12, "--grow-inputs") == 0, place.said
    stopped(place)
    assert {partitions(place)[name] for name in ("words", "by-word-repartition", "seen-changelog")} == {12}
    place.start_two()
    place.send(600)
    place.exact()

    add_partitions(place, 16)
    until(lambda: "kstream rescale --partitions 16" in place.said, "the tasks to stop, and why")
    assert place.rescale(16, "--only", "seen") == 2
    assert "stop all instances first" in capsys.readouterr().err
    place.stop()
    place.send(600)
    assert place.rescale(16, "--only", "seen") == 0
    assert partitions(place)["seen-changelog"] == 16
    place.start_two()
    place.send(60)
    place.exact()
    place.stop()


@pytest.mark.slow
def test_what_is_not_read_keeps_it_from_moving(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("one")
    place.send(60)
    place.exact()
    place.stop()
    place.send(60)
    assert place.rescale(12, "--grow-inputs") == 2
    said = capsys.readouterr().err
    assert f"of topic {place.source} that the app has not read yet lie where 12 partitions do not put them" in said
    place.run("one")
    place.exact()
    assert place.rescale(12, "--grow-inputs") == 0
    stopped(place)
    place.run("one")
    place.send(120)
    place.exact()
    place.stop()


LATER = """
later = app.topic("{name}.later", key=str, value=int)
kept = app.table("kept", key=str, value=int, default=0)


@app.agent(words, to=later, group="later", on_error=[kstream.RetryLater([{delay}] * 50)])
def again(word: str, ctx: kstream.Context[str]) -> int:
    kept[ctx.key] += 1
    if Path("failing").exists():
        raise ConnectionError(word)
    return kept[ctx.key]
"""
"""An isolation group with state, whose records are set aside while the file `failing` is there."""


@pytest.mark.slow
def test_an_isolation_group_whose_records_are_set_aside(place: Place) -> None:
    """What waits is processed before the app stops; its delay topic is made anew with the partitions of its input."""
    place.write(more=LATER.format(name=place.name, delay=1))
    (place.directory / "failing").touch()
    place.run("one")
    place.send(120)
    topic = f"{place.name}-{place.source}-later-retry-1s"
    until(lambda: topic in place.counts() and len(place.records(topic)) > 0, "records to be set aside")
    (place.directory / "failing").unlink()
    place.all_done()
    assert place.rescale(12, "--grow-inputs") == 0, place.said
    stopped(place)
    assert place.counts()[topic] == place.counts()[f"{place.name}-kept-changelog"] == 12
    (place.directory / "failing").touch()
    place.run("one")
    place.send(120)
    until(lambda: len(place.records(topic)) > 0, "records to be set aside")
    (place.directory / "failing").unlink()
    place.exact()
    expected = {key: list(range(1, count + 1)) for key, count in place.words.items()}
    until(lambda: {key: sorted(all_) for key, all_ in place.outputs("later").items()} == expected, "each once")
    place.stop()
