"""What librdkafka's clients raise comes out as an error of kstream's, whichever call it is: no call is left out."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient  # type: ignore[attr-defined]  # exported, in a way mypy does not see

import kstream

PACKAGE = Path(kstream.__file__).parent
ROOM = PACKAGE / "runtime" / "kafka"

METHODS = {name for client in (Consumer, Producer, AdminClient) for name in dir(client) if not name.startswith("_")}
CLIENT = re.compile(r"(self\._|one\.|self\._asked\.)?(consumer|producer|client)|self\._use\(\)")
"""How an object of librdkafka's is called there."""

AROUND = re.compile(r"self\._errors\(|as_ours\(|suppress\(KafkaException\)")
CAUGHT = {"KafkaException", "Exception", "BaseException"}
GUARDS = {"_call", "_each", "_on_a_thread", "_of_coordinator"}
"""Methods that make the call they are given, and turn what it raises into an error of ours."""

RAW = {
    "producer.py: self._use().produce": "the fast path: who calls it asks `meaning` (see test_records_...)",
    "asking.py: one.client.poll in listed": "an admin client's: it serves callbacks, and ours do not raise",
    "inspection.py: self._client.poll": "the same",
    "waking.py: self._client.poll": "part of the consumer's `poll`, where it is guarded",
    "waking.py: self._client.memberid": "the same",
}
"""Calls that are not guarded, and why."""


@dataclass
class Room:
    """The syntax of the files that import confluent_kafka."""

    parents: dict[ast.AST, ast.AST] = field(default_factory=dict)
    calls: list[tuple[str, ast.Attribute]] = field(default_factory=list)
    named: defaultdict[str, list[ast.AST]] = field(default_factory=lambda: defaultdict(list))

    def read(self, file: str, text: str) -> None:
        for node in ast.walk(ast.parse(text)):
            self.parents.update(dict.fromkeys(ast.iter_child_nodes(node), node))
            if isinstance(node, ast.Attribute):
                if ast.unparse(node.value) in ("self", "self._asked"):
                    self.named[node.attr].append(node)
                if node.attr in METHODS and CLIENT.fullmatch(ast.unparse(node.value)):
                    self.calls.append((file, node))
            elif isinstance(node, ast.Name):
                self.named[node.id].append(node)

    def above(self, node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
        """Each that holds the node, with the part of it that does."""
        while (parent := self.parents.get(node)) is not None:
            yield parent, node
            node = parent

    def function(self, node: ast.AST) -> str:
        return next((one.name for one, _ in self.above(node) if isinstance(one, ast.FunctionDef)), "")

    def guarded(self, node: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
        """Here, or in all places that call the function that this is in."""
        for one, part in self.above(node):
            if isinstance(one, ast.Try) and part in one.body and any(map(_catches, one.handlers)):
                return True
            if isinstance(one, ast.With) and any(AROUND.match(ast.unparse(item)) for item in one.items):
                return True
            if isinstance(one, ast.Call) and part is not one.func and ast.unparse(one.func).split(".")[-1] in GUARDS:
                return True
            if isinstance(one, ast.FunctionDef):
                found = [
                    each for each in self.named[one.name] if all(each_in is not one for each_in, _ in self.above(each))
                ]
                return (
                    one.name not in seen
                    and bool(found)
                    and all(self.guarded(each, seen | {one.name}) for each in found)
                )
        return False


def _catches(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(CAUGHT & set(re.findall(r"\w+", ast.unparse(handler.type))))


def unguarded(room: Room) -> Iterator[str]:
    for file, call in room.calls:
        if not room.guarded(call):
            text = f"{file}: {ast.unparse(call)}"
            yield text if text in RAW else f"{text} in {room.function(call)}"


def test_every_call_of_a_client_is_guarded() -> None:
    room = Room()
    for path in sorted(ROOM.glob("*.py")):
        room.read(path.name, path.read_text())
    assert len(room.calls) > 40
    assert set(unguarded(room)) == set(RAW)


@pytest.mark.parametrize(
    ("text", "guarded"),
    [
        ("def f(self): self._consumer.poll(0)", False),
        ("def f(self):\n with self._errors('x'): self._consumer.poll(0)", True),
        ("def f(self):\n try: consumer.poll(0)\n except KafkaException: pass", True),
        ("def f(self):\n try: pass\n except KafkaException: consumer.poll(0)", False),
        ("def f(self):\n try: consumer.poll(0)\n except ValueError: pass", False),
        ("def f(self): self._call('x', lambda timeout: producer.poll(timeout))", True),
        ("def f(self): self._call('x', self._use().poll(0))", True),
        ("def g(self): client.poll(0)\ndef f(self): self._on_a_thread(self.g)", True),
        ("def g(self): client.poll(0)\ndef f(self): self._on_a_thread(self.g)\ndef h(self): self.g()", False),
    ],
)
def test_what_is_guarded(text: str, guarded: bool) -> None:
    room = Room()
    room.read("x.py", text)
    assert len(room.calls) == 1 and (list(unguarded(room)) == []) is guarded


def test_records_are_produced_by_those_who_ask_what_an_error_means() -> None:
    """`produce` is librdkafka's own method. A record of 2 MB once ended `kstream send`, a restore of a savepoint and
    the start of an app with a bare KafkaException."""
    found = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        if ROOM in path.parents or PACKAGE / "testing" in path.parents:
            continue
        tree = ast.parse(path.read_text())
        if any(isinstance(node, ast.Attribute) and node.attr == "produce" for node in ast.walk(tree)):
            found.add(str(path.relative_to(PACKAGE)))
            assert "meaning(" in path.read_text(), f"{path}: use write_record or send_one"
    assert found == {
        "operators/base.py", "runtime/cluster/writing.py", "runtime/task/tracing.py", "runtime/worker/transaction.py",
        "state/changelog.py",
    }  # fmt: skip
