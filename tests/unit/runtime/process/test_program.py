"""What workers load, and that it is what the program declared."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import kstream
from kstream.errors import AppLoadError, ConfigError, TopologyError
from kstream.runtime.process.program import Program, load, program_of, said_of

Write = Callable[..., None]

CORE = """
import kstream
app = kstream.App("shop")
orders = app.topic("orders", key=str, value=int)
"""
AGENTS = """
import core
@core.app.agent(core.orders)
def count(order: int) -> None: ...
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules, which are forgotten afterwards, as in another process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(**texts: str) -> None:
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)

    yield write
    forget(before)


def forget(before: set[str]) -> None:
    for name in set(sys.modules) - before:
        del sys.modules[name]


def told(name: str, attribute: str = "app", target: str | None = None) -> Program:
    """What the workers of a program load that imports this module; it is forgotten then."""
    before = set(sys.modules)
    app: Any = getattr(__import__(name), attribute)
    program = program_of(app, app.topology(), list(app._graph.modules), target)
    forget(before)
    return program


def test_the_modules_that_declared_something_are_loaded(modules: Write) -> None:
    """An app in one module, its agents in another that nobody else imports: they never ran, and records were lost."""
    modules(core=CORE, agents=AGENTS, main="import agents\nfrom core import app")
    program = told("main")
    assert program.target == "core:app" and program.modules == ["core", "agents"]
    found: Any = load(program)
    assert said_of(found.topology()) == program.topology
    assert "agent count" in "".join(program.topology)


def test_what_a_helper_declares_counts_for_who_is_imported(modules: Write) -> None:
    modules(core=CORE, helper="def build(app, topic):\n    app.agent(topic)(len)", main="""
import core, helper
helper.build(core.app, core.orders)
app = core.app
""")  # fmt: skip
    program = told("main", target="core:app")
    assert program.target == "core:app" and program.modules == ["core", "main"]
    load(program)


def test_a_lifespan_alone_is_a_part_of_the_app_too(modules: Write) -> None:
    modules(core=CORE + "app.agent(orders)(len)", life="""
import core
@core.app.lifespan
async def prepare(worker):
    yield
app = core.app
""")  # fmt: skip
    assert told("life", target="core:app").modules == ["core", "life"]


def test_another_topology_is_refused_and_both_are_named(modules: Write) -> None:
    modules(core=CORE + "app.agent(orders, name='here')(len)")
    there = Program("core:app", [], [line for line in told("core").topology if "here" not in line])
    there.topology.append("agent there")
    with pytest.raises(TopologyError, match=r"core:app get another .*program has: agent there; .*has: .*agent here"):
        load(there)


def test_what_differs_between_processes_alone_is_no_difference(modules: Write) -> None:
    modules(core="""
import kstream
class Big(kstream.Codec):
    def encode(self, value): return b""
    def decode(self, data): return None
app = kstream.App("shop")
app.agent(app.topic("orders", key=str, value=Big()))(len)
""")  # fmt: skip
    program = told("core")
    assert "0x" not in "".join(program.topology)
    load(program)


def test_a_module_that_is_gone_is_named(modules: Write) -> None:
    modules(core=CORE)
    with pytest.raises(AppLoadError, match="no module named 'agents'"):
        load(Program("core:app", ["agents"]))


def test_an_app_that_no_module_has_cannot_be_found() -> None:
    app = kstream.App("nowhere")
    app.agent(app.topic("t"))(len)
    with pytest.raises(ConfigError, match="workers cannot find this app"):
        program_of(app, app.topology(), [], None)


def test_running_while_being_loaded_is_refused(modules: Write) -> None:
    """Workers would begin workers, and so on, without end."""
    modules(bare=CORE + "app.agent(orders)(len)\napp.run(workers=1)")
    with pytest.raises(AppLoadError) as caught:
        load(Program("bare:app"))
    assert str(caught.value) == (
        'bare.py:6: app.run() is called when bare is imported: put it under `if __name__ == "__main__":`'
    )


def test_a_program_that_has_run_to_its_end_is_found_still(tmp_path: Path) -> None:
    """Its last line starts a thread that runs the app; meanwhile Python removes `__file__`."""
    script = tmp_path / "svc.py"
    script.write_text(
        "import sys, threading, kstream\n"
        "from kstream.runtime.process.program import program_of\n"
        "app = kstream.App('late')\n"
        "app.stream(app.topic('late-in')).to(app.topic('late-out'))\n"
        "def later():\n"
        "    threading.main_thread().join()\n"
        "    assert '__file__' not in vars(sys.modules['__main__'])\n"
        "    print(program_of(app, app.topology(), [], None).target)\n"
        "threading.Thread(target=later).start()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("svc:app", "")


def test_code_that_was_run_by_exec_is_no_module_to_load() -> None:
    """execnet, a notebook and the like run a program's text under a module's name: workers cannot import it."""
    scope: dict[str, Any] = {"__name__": "somewhere"}
    exec(compile("import kstream\napp = kstream.App('run')\napp.topic('made', value=int)", "run", "exec"), scope)
    assert list(scope["app"]._graph.modules) == []
    namesake: dict[str, Any] = {"__name__": __name__}  # one that there is, but not with these globals
    exec(compile("import kstream\napp = kstream.App('run')\napp.topic('made', value=int)", "run", "exec"), namesake)
    assert list(namesake["app"]._graph.modules) == []
