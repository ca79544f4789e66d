"""The command line: one line for what the user can mend, a traceback for what nobody expected."""

from __future__ import annotations

import errno
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from kstream.app import App
from kstream.cli import main
from kstream.cli.app import commands
from kstream.cli.named import named
from kstream.config import Settings
from kstream.errors import InstanceFenced, KafkaUnavailable

GOOD = """
from kstream.app import App

class Holder:
    inner = App("inner")

application = App("bids")
number = 7
"""


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A directory with a user's modules, as the current one; nothing of it stays imported."""
    for name in [one for one in __import__("os").environ if one.startswith("KSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = set(sys.modules)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "good.py").write_text(GOOD)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("mine", "services"):
            del sys.modules[name]


def fails(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 2) -> str:
    assert main(arguments) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("kstream: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err.removeprefix("kstream: ").rstrip("\n")


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Settings, Any]]:
    """Calls of App.run, which does nothing."""
    calls: list[tuple[str, Settings, Any]] = []

    def run(self: App, *, settings: Settings, target: str, **_: Any) -> int:
        calls.append((self.name, settings, target))
        return 0

    monkeypatch.setattr(App, "run", run)
    monkeypatch.setattr("kstream.observe.logs.configure", lambda *_, **__: None)
    return calls


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kstream 0.")


def test_help_without_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert all(name in out for name in ("run", "topology", "broker", "demo")) and err == ""


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["run"], "Missing argument 'MODULE:ATTRIBUTE'"),
        (["run", "a:b", "--wrkers", "3"], "No such option: --wrkers"),
        (["broker", "--port", "many"], "Invalid value for '--port'"),
        (["run", "mine.good"], "'mine.good' is not of the form MODULE:ATTRIBUTE, such as services.flights.app:app"),
        (["run", "mine/good.py:application"], "'mine/good.py' is a file, not a module: write mine.good:application"),
        (["run", "mine.god:application"], "no module named 'mine.god' in"),
        (["run", "mine.god:application"], "did you mean 'mine.good'?"),
        (["run", "mien.good:application"], "no module named 'mien' in"),
        (["run", "mien.good:application"], "did you mean 'mine'?"),
        (["run", "mine.good:aplication"], "mine.good has no 'aplication'; did you mean 'application'?"),
        (["run", "mine.good:number"], "mine.good:number is not an App but an int; did you mean mine.good:application?"),
        (["topology", "mine.good:Holder"], "mine.good:Holder is not an App but a type; did you mean"),
        (["run", "mine.good:application", "--set", "linger"], "--set: one has no '=' (not shown, it may be a secret)"),
        (["run", "mine.good:application", "--workers", "many"], "workers: 'many' is not a whole number of 0 or more"),
        (["run", "mine.good:application", "--set", "wrkers=1"], "wrkers: there is no such setting"),
        (["run", "mine.good:application", "--config", "no.toml"], "no.toml: there is no such file"),
    ],
)
def test_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert message in fails(capsys, *arguments)


@pytest.mark.parametrize(
    "code,message",
    [
        ("x = 1\nx = 1 / 0\n", "mine/bad.py:2: ZeroDivisionError: division by zero"),
        ("def f(:\n", "mine/bad.py:1: SyntaxError: "),
        ("import no_such_package_at_all\n", "mine/bad.py:1: ModuleNotFoundError: No module named 'no_such_package"),
        ("from kstream.errors import ConfigError\nraise ConfigError('2\\nlines')", "bad.py:2: ConfigError: 2 lines"),
        ("import json\n\njson.loads('{')\n", "mine/bad.py:3: JSONDecodeError: "),
        ("import sys\nsys.exit(3)", "mine/bad.py:2: SystemExit: 3"),
    ],
)  # fmt: skip
def test_a_module_that_fails(capsys: pytest.CaptureFixture[str], project: Path, code: str, message: str) -> None:
    (project / "mine" / "bad.py").write_text(code)
    line = fails(capsys, "run", "mine.bad:app")
    assert line.startswith("mine.bad cannot be imported: ") and message in line and "--debug" in line


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback(capsys: pytest.CaptureFixture[str], project: Path, place: int) -> None:
    (project / "mine" / "bad.py").write_text("1 / 0\n")
    arguments = ["run", "mine.bad:app"]
    arguments.insert(place, "--debug")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err and "ZeroDivisionError" in err
    assert err.splitlines()[-1].startswith("kstream: mine.bad cannot be imported")


def test_run(runs: list[tuple[str, Settings, Any]], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "other.toml").write_text('linger = "1s"\nworkers = 5\n')
    monkeypatch.setenv("KSTREAM_WORKERS", "4")
    status = main(
        ["run", "mine.good:application", "--workers", "3", "--instance", "a-1", "--state-dir", "/s", "--config",
         "other.toml", "--bootstrap-servers", "k:1", "--log-level", "debug", "--set", "kafka.sasl.password=a=b",
         "--set", "poll_batch=7"]
    )  # fmt: skip
    assert status == 0
    ((name, settings, target),) = runs
    assert (name, target) == ("bids", "mine.good:application")
    assert (settings.workers, settings.instance, settings.state_dir, settings.linger) == (3, "a-1", "/s", 1.0)
    assert (settings.bootstrap_servers, settings.log_level, settings.poll_batch) == ("k:1", "DEBUG", 7)
    assert settings.kafka == {"sasl.password": "a=b"}


def test_a_dotted_attribute(runs: list[tuple[str, Settings, Any]]) -> None:
    assert main(["run", "mine.good:Holder.inner"]) == 0
    assert runs[0][0] == "inner"


@pytest.mark.parametrize(
    "error,status", [(KafkaUnavailable("no brokers\nat x"), 2), (InstanceFenced("somebody else"), 1)]
)
def test_errors_of_a_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(App, "run", run)
    monkeypatch.setattr("kstream.observe.logs.configure", lambda *_, **__: None)
    assert fails(capsys, "run", "mine.good:application", status=status) == " ".join(str(error).split())


def test_the_status_of_a_run(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "run", lambda *_, **__: 3)
    assert main(["run", "mine.good:application"]) == 3


def test_what_nobody_expected_keeps_its_traceback(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(App, "run", run)
    with pytest.raises(ZeroDivisionError):
        main(["run", "mine.good:application"])


@pytest.mark.parametrize(
    "error,message",
    [
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/etc/passwd/x"), "/etc/passwd/x: Not a directory"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device (work is done in "),
    ],
    ids=["path", "full"],
)
def test_what_the_machine_refuses_is_one_line(
    capsys: pytest.CaptureFixture[str], runs: Any, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise error

    monkeypatch.setattr(App, "run", run)
    assert message in fails(capsys, "run", "mine.good:application", status=1)
    with pytest.raises(OSError):
        main(["run", "mine.good:application", "--debug"])


def test_interrupt(runs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(App, "run", run)
    assert main(["run", "mine.good:application"]) == 130


def test_topology(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(App, "topology", lambda _: types.SimpleNamespace(describe=lambda: "the graph"))
    assert main(["topology", "mine.good:application"]) == 0
    assert capsys.readouterr().out == "the graph\n"


class TestDemo:
    def test_passes_its_options(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls: list[dict[str, Any]] = []
        demo = types.ModuleType("services.flights.demo")

        def run(**options: Any) -> int:
            calls.append(options)
            return 5

        demo.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "services.flights.demo", demo)
        monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
        assert main(["demo", "--no-kill", "--workers", "3", "--rate", "1000", "--bootstrap", "k:1"]) == 5
        assert main(["demo"]) == 5
        assert calls == [
            {"kill": False, "workers": 3, "rate": 1000.0, "bootstrap": "k:1"},
            {"kill": True, "workers": 2, "rate": None, "bootstrap": None},
        ]

    def test_a_query_of_nexmark(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        demo, calls = types.ModuleType("services.nexmark.demo"), list[Any]()
        demo.run = lambda *given, **options: calls.append((given, options)) or 3  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "services.nexmark.demo", demo)
        assert main(["demo", "--nexmark", "q5", "--events", "1000", "--rate", "10"]) == 3
        assert calls == [(("q5",), {"kill": True, "workers": 2, "rate": 10.0, "bootstrap": None, "events": 1000})]
        assert "--events is for --nexmark" in fails(capsys, "demo", "--events", "10")

    def test_without_data(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        assert "pip install 'kstream[demo]'" in fails(capsys, "demo")

    def test_without_the_service(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, project: Path
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda _: object())
        (project / "services").mkdir()
        (project / "services" / "__init__.py").write_text("")
        for name in [one for one in sys.modules if one.split(".")[0] == "services"]:
            monkeypatch.delitem(sys.modules, name)
        sys.path.insert(0, str(project))
        assert "clone of kstream's repository" in fails(capsys, "demo")


def test_the_command_itself_is_light() -> None:
    code = "import sys, kstream.cli; print([one for one in ('typer', 'rich', 'pydantic') if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_command_that_is_made_alone_is_the_one_among_all() -> None:
    whole: Any = typer.main.get_command(commands)
    for name, command in whole.commands.items():
        alone: Any = typer.main.get_command(named(commands, [name, "--option"]))
        one = alone.commands[name]
        assert [(each.name, each.opts, each.default) for each in one.params] == [
            (each.name, each.opts, each.default) for each in command.params
        ]
        assert one.help == command.help and len(alone.commands) in (1, len(whole.commands))
        assert [option.name for option in alone.params] == [option.name for option in whole.params]
    for others in ([], ["--help"], ["runn"], ["--debug", "run"]):
        assert named(commands, others) is commands
