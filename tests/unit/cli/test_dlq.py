"""What `kstream dlq` shows and says, on a Kafka in memory; on a real one it is in tests/broker/test_dlq_command.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

import kstream
from kstream.cli import main, operate
from kstream.cli.dlq import finding, handling, listing
from kstream.cli.dlq.finding import Wanted
from kstream.cli.operate import Subject
from kstream.config import Settings
from kstream.errors import ConfigError, UsageError
from kstream.testing.clients import MemoryClients
from kstream.testing.cluster import MemoryCluster

LETTERS = "shop-dead-letters"
HOSTILE = "[bold]x[/bold]\x1b[2J\x9b31m\u202egnp\u2028\rFORGED :smile:\x7f"

app = kstream.App("shop", on_error=[kstream.DeadLetter("slow", on=(TimeoutError,)), kstream.DeadLetter()])
orders = app.topic("orders", key=str, value=int)
app.stream(orders).to(app.topic("copies", key=str, value=int))
single = kstream.App("shop", on_error=[kstream.DeadLetter()])
single.stream(single.topic("orders", key=str, value=int)).to(single.topic("copies", key=str, value=int))


def subject(of: kstream.App = single) -> Subject:
    return Subject(of, Settings(), {})


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> MemoryCluster:
    made = MemoryCluster()
    for topic in (LETTERS, "slow", "orders"):
        made.create_topic(topic, 2, {"retention.ms": "-1"})
    monkeypatch.setattr(finding, "clients_of", lambda _: MemoryClients(made))
    return made


def add(
    cluster: MemoryCluster, n: int, topic: str = LETTERS, app: str = "shop", value: bytes = b"7", **more: str
) -> None:
    said = {
        "__streams.errors.exception": "builtins.ValueError", "__streams.errors.message": f"bad {n}",
        "__streams.errors.stacktrace": "Traceback\n  line", "__streams.errors.topic": "orders",
        "__streams.errors.partition": "0", "__streams.errors.offset": str(n), "kstream.app": app,
        "kstream.time": str(1_700_000_000_000 + n * 1000), "kstream.agent": "price", "kstream.phase": "process", **more,
    }  # fmt: skip
    headers = [(name, text.encode()) for name, text in said.items()]
    cluster.append(topic, b"k%d" % n, value, 1_700_000_000_000, headers, n % 2)


def listed(capsys: pytest.CaptureFixture[str], of: kstream.App = single, **more: Any) -> str:
    given: dict[str, Any] = {"count": None, "everything": False, "as_json": False, **more}
    assert listing.run(subject(of), given.pop("wanted", Wanted()), **given) == 0
    return str(capsys.readouterr().out)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "160")


def test_the_list(cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        add(cluster, n)
    add(cluster, 9, app="mill")
    out = listed(capsys)
    rows = [line.split() for line in out.splitlines() if "bad " in line]
    assert [row[0] for row in rows] == ["0:0", "1:0", "0:1"], "the latest last"
    assert rows[0][1:6] == ["2023-11-14T22:13:20.000Z", "orders[0]", "0", "price", "process"]
    assert "      3 ValueError orders\n" in out
    assert out.endswith("\n3 dead letters\n1 of app mill are left out\n")


def test_of_several_topics_each_letter_has_its_topic(
    cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    add(cluster, 0)
    add(cluster, 1, "slow")
    out = listed(capsys, app)
    assert f"{LETTERS}:0:0" in out and "slow:1:0" in out
    out = listed(capsys, app, wanted=Wanted(topic="slow"))
    assert "slow:1:0" not in out and " 1:0 " in f" {out}".replace("\n", " ") and LETTERS not in out
    with pytest.raises(
        UsageError, match=f"0:0 of which topic. write TOPIC:PARTITION:OFFSET; there are slow, {LETTERS}"
    ):
        listing.show(subject(app), "0:0", None, as_json=False)
    assert listing.show(subject(app), "slow:1:0", None, as_json=False) == 0
    assert "letter         slow:1:0\n" in capsys.readouterr().out


def test_only_so_many_are_shown(cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(60):
        add(cluster, n)
    out = listed(capsys)
    assert out.count("bad ") == listing.COUNT and "bad 9 " not in out and "bad 59 " in out
    assert out.endswith("60 dead letters, the latest 50 are shown (--count)\n")
    assert listed(capsys, count=2).count("bad ") == 2
    rows = [json.loads(line) for line in listed(capsys, as_json=True).splitlines()]
    assert len(rows) == 60
    assert [json.loads(line)["message"] for line in listed(capsys, as_json=True, count=2).splitlines()] == [
        "bad 58", "bad 59",
    ]  # fmt: skip


def test_of_an_option_that_is_repeated_any_fits(
    cluster: MemoryCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the last one only: `purge --reason A --reason B` would leave A, and say nothing."""
    for n, reason in enumerate(("KeyError", "OSError", "ValueError")):
        add(cluster, n, **{"__streams.errors.exception": f"builtins.{reason}"})
    monkeypatch.setattr(operate, "subject", lambda *_: subject())
    main(["dlq", "list", "shop:app", "--reason", "KeyError", "--reason", "ValueError", "--phase", "process"])
    out = capsys.readouterr().out
    assert "\n2 dead letters\n" in out and "OSError" not in out
    main(["dlq", "purge", "shop:app", "--reason", "OSError", "--reason", "ValueError", "--yes"])
    assert "gave up 2 dead letters\n" in capsys.readouterr().out
    main(["dlq", "list", "shop:app", "--phase", "decoding"])
    assert "--phase decoding: there is no such phase; the phases are decode, process, " in capsys.readouterr().err


def test_what_is_handled_is_hidden(cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(3):
        add(cluster, n)
    assert handling.replay(subject(), Wanted(letters=["0:0"]), None, dry_run=False) == 0
    assert capsys.readouterr().out == "replayed 1 dead letter to orders\n"
    assert listed(capsys).endswith("\n2 dead letters\n1 more is handled (--all shows them)\n")
    assert "replayed" in listed(capsys, everything=True)
    listing.show(subject(), "0:0", None, as_json=False)
    assert "handled        replayed to orders, " in capsys.readouterr().out
    assert handling.replay(subject(), Wanted(letters=["0:0"]), None, dry_run=False) == 0
    assert capsys.readouterr().out == "nothing to do\n1 dead letter handled before\n"


def test_one_of_them(cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]) -> None:
    add(cluster, 0)
    add(cluster, 2, value=b"\xff", **{"kstream.attempts": "4", "kstream.replays": "2", "trace": "abc"})
    listing.show(subject(), "0:0", None, as_json=False)
    out = capsys.readouterr().out
    assert (
        "from           orders[0] 0\n" in out and "value          7\n" in out and out.endswith("\nTraceback\n  line\n")
    )
    listing.show(subject(), "0:1", None, as_json=False)
    out = capsys.readouterr().out
    for line in ("tries          4", "replays before 2", "header         trace=abc"):
        assert f"{line}\n" in out
    assert "value          \\xff  cannot be decoded: " in out
    listing.show(subject(), "0:1", None, as_json=True)
    row = json.loads(capsys.readouterr().out)
    assert (row["attempts"], row["replays"], row["source"]) == (
        4, 2, {"topic": "orders", "partition": 0, "offset": 2},
    )  # fmt: skip


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_letters_of_anybody_are_plain_text(
    cluster: MemoryCluster, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    names = ("exception", "message", "stacktrace", "topic")
    said = {f"__streams.errors.{name}": HOSTILE for name in names}
    said |= {f"kstream.{name}": HOSTILE for name in ("agent", "phase", "task")}
    add(cluster, 0, value=HOSTILE.encode(), **said, **{HOSTILE: HOSTILE})
    add(cluster, 1, app=HOSTILE)
    out = listed(capsys, as_json=as_json)
    listing.show(subject(), "0:0", None, as_json=as_json)
    out += capsys.readouterr().out
    handling.replay(subject(), Wanted(), None, dry_run=True)
    assert handling.replay(subject(), Wanted(), None, dry_run=False) == 1
    out += capsys.readouterr().out
    assert out.count("[bold]x[/bold]") > 6 and ":smile:" in out
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert not any(line.startswith("FORGED") for line in out.splitlines())


class TestHandling:
    def test_what_would_be_done(self, cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]) -> None:
        add(cluster, 0)
        add(cluster, 1, **{"__streams.errors.topic": "elsewhere"})
        assert handling.replay(subject(), Wanted(), None, dry_run=True) == 0
        assert capsys.readouterr().out.splitlines() == [
            "would replay 1 dead letter to orders",
            "would leave 1 dead letter: elsewhere is no input of the app: give --to",
        ]
        assert handling.purge(subject(), Wanted(), dry_run=True, yes=False) == 0
        assert capsys.readouterr().out == "would give up 2 dead letters of ValueError\n"
        assert cluster.records("orders") == [] and f"{LETTERS}-handled" not in cluster.topics()

    def test_a_purge_asks(
        self, cluster: MemoryCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(cluster, 0)
        monkeypatch.setattr("sys.stdin", _NoTerminal())
        with pytest.raises(ConfigError, match="add --yes"):
            handling.purge(subject(), Wanted(), dry_run=False, yes=False)
        monkeypatch.setattr("sys.stdin", _Terminal("n\n"))
        assert handling.purge(subject(), Wanted(), dry_run=False, yes=False) == 1
        assert f"{LETTERS}-handled" not in cluster.topics()
        monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
        assert handling.purge(subject(), Wanted(), dry_run=False, yes=False) == 0
        assert f"gave up 1 dead letter\ndeleted what is before offset 1 of {LETTERS}[0]\n" in capsys.readouterr().out

    def test_what_cannot_be_deleted_is_told_and_stays_handled(
        self, cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]
    ) -> None:
        add(cluster, 0)
        cluster.configure(LETTERS, {"cleanup.policy": "compact"})
        assert handling.purge(subject(), Wanted(), dry_run=False, yes=True) == 1
        out, err = capsys.readouterr()
        assert out == "gave up 1 dead letter\n" and err.startswith(f"kstream: {LETTERS}: nothing was deleted: ")
        assert err.count("\n") == 1
        assert listed(capsys).endswith("\n0 dead letters\n1 more is handled (--all shows them)\n")

    def test_letters_of_another_app_are_not_handled(self, cluster: MemoryCluster) -> None:
        add(cluster, 0, app="mill")
        with pytest.raises(UsageError, match="a dead letter of app mill is among them: give the command that app"):
            handling.replay(subject(), Wanted(letters=["0:0"]), None, dry_run=False)
        with pytest.raises(UsageError, match="there is no dead letter 1:5"):
            handling.purge(subject(), Wanted(letters=["1:5"]), dry_run=False, yes=True)


def test_the_letter_of_a_result_is_shown_and_not_replayed(
    cluster: MemoryCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where somebody wrote into its headers where it comes from."""
    result = {"kstream.result": "the result of a window of 'sums'", "kstream.result.step": "aggregate sums"}
    add(cluster, 0, **result, **{"kstream.result.key": "Windowed(key='k', start=0)"})
    out = listed(capsys)
    assert "a result of aggregate sums" in out and "Windowed(key='k', start" in out
    assert listing.show(subject(), "0:0", None, as_json=True) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert told == {
        "of": "the result of a window of 'sums'",
        "step": "aggregate sums",
        "key": "Windowed(key='k', start=0)",
    }
    for to in (None, "orders"):
        assert handling.replay(subject(), Wanted(), to, dry_run=False) == 1
        said = "".join(capsys.readouterr())
        assert "it is the result of a window of 'sums', and no record that was read" in said
    assert cluster.records("orders") == []


class _Terminal:
    def __init__(self, line: str) -> None:
        self._lines: Iterator[str] = iter([line])

    def isatty(self) -> bool:
        return True

    def readline(self, *_: int) -> str:
        return next(self._lines)


class _NoTerminal(_Terminal):
    def __init__(self) -> None:
        super().__init__("")

    def isatty(self) -> bool:
        return False
