"""Savepoints of an app of several instances, on a real Kafka."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from kstream.cli import main
from support.objects import s3_server
from support.running import kill, until, write_module
from support.saving import BOTH, Place, places


@pytest.fixture
def place(bootstrap_servers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    yield from places(bootstrap_servers, tmp_path, monkeypatch)


def test_what_comes_after_a_savepoint_repeats_exactly(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """Two instances; run, savepoint while records come, run on, stop, restore, run again. And once more."""
    place.start_two()
    place.send(600)
    place.all_done()
    with place.sending():
        assert place.save("first") == 0, place.said
    since = place.before("first")
    assert 0 < since.total() < place.sent
    place.go_on()
    assert place.verify("first") == 0
    assert place.restore("first") == 0
    place.run("one"), place.run("two")
    place.repeated(since)
    place.stop()

    place.outputs_before = {key: len(values) for key, values in place.outputs("counts").items()}
    assert place.restore("first") == 0  # it was not claimed
    assert "--claim" not in capsys.readouterr().out
    place.run("one")
    place.repeated(since)
    place.stop()
    assert place.restore("first", "--claim") == 0
    assert place.restore("first") == 2
    assert "there is no savepoint first" in capsys.readouterr().err


def test_a_savepoint_with_stop_has_all_that_was_processed(place: Place) -> None:
    """The instances leave their groups, so that a restore may follow, whatever they do at other stops."""
    place.start_two("--set", "on_stop=stay", "--set", "session_timeout=60")
    with place.sending():
        assert place.save("last", "--stop") == 0, place.said
    for one in place.running:
        assert one.wait() == 0, one.err.read_text()
    since = place.before("last")
    for which in BOTH:
        assert {key: len(values) for key, values in place.outputs(which).items()} == dict(since), which
    place.outputs_before = dict(since)
    assert place.restore("last") == 0
    place.run("one")
    place.repeated(since)
    place.stop()


def test_copied_elsewhere_restored_as_another_app_in_canonical_form_too(place: Place) -> None:
    place.start_two()
    place.send(300)
    assert place.save("native") == 0, place.said
    assert place.save("readable", "--format", "canonical") == 0, place.said
    sinces = {name: place.before(name) for name in ("native", "readable")}
    place.go_on()

    (place.directory / "saved").rename(place.directory / "elsewhere")
    for name, since in sinces.items():
        other = f"{place.name}-{name}"
        module = place.write(name=other)
        assert place.kstream("topics", f"{module}:app", "--create") == 0
        options = ("--in", place.directory / "elsewhere", "--yes")
        assert place.kstream("savepoint", "restore", f"{module}:app", name, *options) == 2
        assert place.kstream("savepoint", "restore", f"{module}:app", name, "--as", other, *options) == 0
        place.run(other, target=f"{module}:app")
        place.repeated(since, name=other)
        place.stop()

    folder = place.directory / "elsewhere" / "readable" / "tables"
    rows = [row for file in folder.glob("seen/*.parquet") for row in pyarrow.parquet.read_table(file).to_pylist()]
    assert {row["key"]: row["value"] for row in rows} == dict(sinces["readable"])
    assert not [path for path in folder.parent.rglob("*.sst")]


def test_without_pyarrow_the_canonical_form_is_refused_before_anything_changes(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.run("one")
    place.send(60)
    place.all_done()
    assert place.save("readable", "--format", "canonical") == 0, place.said
    place.stop()
    with monkeypatch.context() as without:
        for module in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
            without.setitem(sys.modules, module, None)
        assert place.save("again", "--format", "canonical") == 2
        assert "pip install 'kstream[parquet]'" in capsys.readouterr().err
        assert place.restore("readable") == 2
        assert "pip install 'kstream[parquet]'" in capsys.readouterr().err
    assert [path.name for path in (place.directory / "saved").iterdir()] == ["readable"]
    place.run("one")  # it starts: nothing is half restored
    place.send(30)
    place.all_done()
    place.stop()


def test_in_a_bucket_and_stores_that_are_given_up(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two instances store their files in a bucket; the app comes back without one of its stores."""
    with s3_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        bucket = f"s3://{server.bucket()}/kept"
        place.start_two()
        place.send(300)
        place.all_done()
        assert place.kstream("savepoint", "create", place.target, "it", "--to", bucket) == 0, place.said
        assert place.kstream("savepoint", "create", place.target, "it", "--to", bucket) == 2
        assert (
            place.kstream("savepoint", "create", place.target, "readable", "--to", bucket, "--format", "canonical") == 0
        )
        since = place.words
        place.go_on()
        capsys.readouterr()
        assert main(["savepoint", "list", "--in", bucket, "--json"]) == 0
        listed = json.loads(capsys.readouterr().out)
        assert {(one["name"], one["format"], tuple(sorted(one["stores"]))) for one in listed} == {
            ("it", "native", ("per-word", "seen")), ("readable", "canonical", ("per-word", "seen")),
        }  # fmt: skip
        for name in ("it", "readable"):
            assert main(["savepoint", "verify", name, "--in", bucket]) == 0
        query = 'select sum(value) as total from "per-word"'
        for name in ("it", "readable"):
            capsys.readouterr()
            assert main(["state", "sql", place.target, query, "--savepoint", name, "--place", bucket, "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == {"total": 300}

        place.write(count="of-words")
        for name in ("readable", "it"):
            restore = ("savepoint", "restore", place.target, name, "--in", bucket, "--yes")
            capsys.readouterr()
            assert place.kstream(*restore) == 2
            assert "has state of per-word, which app" in capsys.readouterr().err
            assert place.kstream(*restore, "--allow-dropped") == 0
            assert "state of per-word is given up" in capsys.readouterr().out
        place.run("one")
        total = {key: count - since[key] for key, count in place.words.items()}
        seen = {key: list(range(since[key] + 1, count + 1)) for key, count in place.words.items()}

        def again() -> bool:
            found = {which: place.come(which) for which in BOTH}
            return {
                which: {key: values[place.outputs_before[key] :] for key, values in found[which].items()}
                for which in BOTH
            } == {"counts": {key: list(range(1, n + 1)) for key, n in total.items()}, "seen": seen}

        until(again, "what was given up to begin anew, and the rest to go on")
        place.stop()
        assert main(["savepoint", "delete", "it", "--in", bucket, "--yes"]) == 0
        assert main(["savepoint", "verify", "it", "--in", bucket]) == 2


def test_stores_that_came_are_gone_or_have_another_name(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    place.send(300)
    assert place.save("it") == 0, place.said
    since = place.before("it")
    place.go_on()
    place.write(
        count="of-words",
        more="""
lengths = app.topic("{name}.lengths", key=str, value=int, partitions=3)
app.stream(words).group_by_key().count(name="again").to(lengths)
""".replace("{name}", place.name),
    )
    capsys.readouterr()
    assert place.restore("it") == 2
    refused = capsys.readouterr().err
    assert "has state of per-word, which app" in refused and "--rename" in refused
    assert place.restore("it", "--rename", "nothing=of-words") == 2
    assert place.restore("it", "--rename", "per-word=seen") == 2
    assert place.restore("it", "--rename", "per-word=of-words") == 0
    assert "store again: empty" in capsys.readouterr().out
    place.run("one")
    place.repeated(since)
    total = {key: count - since[key] for key, count in place.words.items()}
    place.settle({"lengths": Counter(total)})
    assert {key: values[-1] for key, values in place.outputs("lengths").items()} == total
    place.stop()


def test_what_cannot_be_restored_is_refused_before_anything_changes(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    first = place.run("one")
    place.send(60)
    place.all_done()
    assert place.save("it") == 0, place.said
    assert place.save("it") == 2
    assert "there is a savepoint it" in capsys.readouterr().err
    assert place.restore("it") == 2
    assert "stop all instances" in capsys.readouterr().err
    place.stop()
    assert place.save("other") == 2
    assert "has no members" in capsys.readouterr().err

    saved = place.directory / "saved" / "it"
    file = next(path for path in saved.rglob("*") if path.is_file() and "/files/" in str(path) and path.stat().st_size)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert place.verify("it") == 1
    assert "checksum does not fit" in capsys.readouterr().err
    assert place.restore("it") == 1
    assert "is damaged, nothing was changed" in capsys.readouterr().err
    file.write_bytes(data)

    assert place.restore("it", "--dry-run") == 0
    place.run("one")
    place.send(30)
    place.all_done()  # it went on where it was
    place.stop()
    assert "rebuilt" not in first.err.read_text()


def test_a_worker_that_dies_ends_it_and_the_app_goes_on(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    place.send(300)
    (place.directory / "slow").touch()  # an agent that takes its time: the inputs are held long enough
    command = place.saving("it")
    until(lambda: "inputs are held" in place.running[1].err.read_text(), "two to hold")
    (worker,) = place.running[1].children
    kill(worker)
    assert command.wait() == 1
    said = command.err.read_text()
    assert "its process ended (killed)" in said or "shared out anew" in said, said
    (place.directory / "slow").unlink()
    place.all_done()
    assert not list((place.directory / "saved").rglob("savepoint"))
    until(lambda: place.save("it") == 0, "one, once no task is being restored any more")
    place.stop()


def test_a_command_that_is_killed_leaves_the_app_running(place: Place) -> None:
    place.start_two()
    (place.directory / "slow").touch()
    place.send(60)
    command = place.saving("it", "--timeout", "3")
    until(lambda: "inputs are held" in place.running[1].err.read_text(), "two to hold")
    command.process.kill()
    (place.directory / "slow").unlink()
    place.send(60)
    place.all_done()
    for one in place.running:
        said = one.err.read_text()
        assert "savepoint it is given up: the time is over" in said, said
    assert place.save("it") == 0, place.said
    place.stop()


def test_a_time_out_says_what_was_waited_for(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.start_two()
    (place.directory / "slow").touch()
    place.send(300)
    assert place.save("it", "--timeout", "3") == 1
    said = capsys.readouterr().err
    assert "the app goes on: " in said and "after 3 s (--timeout)" in said, said
    assert ".words/" in said or "-by-word-repartition/" in said, said
    (place.directory / "slow").unlink()
    place.all_done()
    place.stop()


def warehouse(path: Path, rows: dict[str, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.table({"key": list(rows), "value": list(rows.values())}), path)
    return path


def test_state_that_begins_with_files_of_a_warehouse(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    had = {f"w{i}": 1000 + i for i in range(7)}
    files = warehouse(place.directory / "lake" / "part.parquet", had).parent
    bad = warehouse(place.directory / "bad.parquet", {"w1": 2**62})
    pyarrow.parquet.write_table(pyarrow.table({"key": ["w1"], "value": ["many"]}), bad)

    def filled(store: str, *more: object) -> int:
        return place.kstream("state", "import", place.target, store, *more, "--yes")

    assert filled("seen", bad) == 2
    assert "not int" in capsys.readouterr().err
    assert filled("seen", place.directory / "nothing.parquet") == 2
    for store in ("per-word", "seen"):
        assert filled(store, files) == 0, capsys.readouterr().err
    place.start_two()
    place.send(140)
    for which in BOTH:
        until(lambda which=which: sum(map(len, place.come(which).values())) == 140, "the outputs")
        assert place.outputs(which) == {word: list(range(n + 1, n + 21)) for word, n in had.items()}, which

    assert filled("seen", files) == 2
    assert "stop all instances" in capsys.readouterr().err
    assert place.kstream("state", "export", place.target, "seen", "--to", place.directory / "out") == 0
    rows = [
        row for file in (place.directory / "out/seen").iterdir() for row in pyarrow.parquet.read_table(file).to_pylist()
    ]
    assert {row["key"]: row["value"] for row in rows} == {word: n + 20 for word, n in had.items()}
    place.stop()
    capsys.readouterr()
    assert filled("seen", files) == 2
    assert "--replace" in capsys.readouterr().err
    assert filled("seen", place.directory / "out/seen", "--replace") == 0  # what was written is read again
    place.run("one")
    place.send(7)
    until(lambda: sum(map(len, place.come("seen").values())) == 147, "the outputs")
    assert {word: values[-1] for word, values in place.outputs("seen").items()} == {w: n + 21 for w, n in had.items()}
    place.stop()


def test_a_type_that_cannot_read_the_savepoint_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.run("one")
    place.send(60)
    place.all_done()
    assert place.save("it") == 0, place.said
    place.stop()
    module = place.directory / f"{place.module}.py"
    one, other = '"seen", key=str, value=int, default=0', '"seen", key=str, value=list[str], default=list'
    write_module(module, module.read_text().replace(one, other))
    sys.modules.pop(place.module)
    assert place.restore("it") == 2
    assert "store 'seen' holds values of the type int" in capsys.readouterr().err
    place.write()
    assert place.restore("it") == 0
    assert "value of store" not in capsys.readouterr().out
    one, other = '"seen", key=str, value=int, default=0', '"seen", key=str, value=list[str], default=list'
    write_module(module, module.read_text().replace(one, other))
    refused = place.run("one")
    assert refused.wait() == 2
    assert "store 'seen' holds values of the type int" in refused.err.read_text()
    place.running.clear()


LATER = """
@app.agent(words, group="later", on_error=[kstream.RetryLater([600])])
def again(word: str) -> None:
    if Path("failing").exists():
        raise ConnectionError(word)
"""


def test_records_that_wait_in_a_delay_topic_are_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A savepoint does not take them along, so there is none; nor is one made of the stopped app."""
    place.write(more=LATER)
    (place.directory / "failing").touch()
    place.run("one")
    place.send(20)
    place.all_done()
    topic = f"{place.name}-{place.source}-later-retry-600s"
    until(lambda: topic in place.counts() and len(place.records(topic)) == 20, "the records to be set aside")
    assert place.save("it", "--timeout", "3") == 1
    said = capsys.readouterr().err
    assert f"records wait in delay topics, and a savepoint takes none of them along: {topic} (for up to 600 s)" in said
    place.stop()
    assert place.rescale(6, "--only", "per-word") == 2
    assert f"topic {topic} has 20 records that the app has not processed yet" in capsys.readouterr().err


NOTES = """
notes = app.table("notes", key=str, value=str)


@app.agent(words)
def write(word: str, ctx: kstream.Context[str]) -> None:
    notes[ctx.key] = "x" * Path("length").stat().st_size if Path("length").exists() else word
"""


@pytest.mark.slow
def test_an_entry_that_kafka_would_refuse_keeps_a_restore_from_deleting_anything(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was written when larger ones were sent."""
    place.write(more=NOTES)
    (place.directory / "length").write_bytes(bytes(1_500_000))
    larger = ("--set", "kafka.message.max.bytes=3000000")
    place.run("one", *larger)
    place.send(7)
    place.all_done()
    assert place.save("it", *larger) == 0, place.said
    since = place.before("it")
    place.go_on(14)
    before = place.counts()
    assert place.restore("it") == 2
    said = capsys.readouterr().err
    assert "an entry of notes has 1,500,002 bytes, and kafka.message.max.bytes lets us send 1,000,000" in said
    assert place.counts() == before
    (place.directory / "length").unlink()
    place.run("one", *larger)  # it goes on: nothing was begun
    place.send(7)
    place.all_done()
    place.stop()
    place.outputs_before = dict(place.words)
    assert place.restore("it", *larger) == 0
    place.run("one", *larger)
    place.repeated(since)
    place.stop()
