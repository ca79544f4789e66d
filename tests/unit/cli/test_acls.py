"""`kstream acls`: the rights of an app that has everything, in each form. That they are the least, and enough, is shown
on a broker (tests/security/test_rights.py)."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from kstream.cli import main
from kstream.cli.acls import commands, kafka_user, table
from kstream.cli.run import load_app
from kstream.config import Settings
from kstream.runtime.cluster.rights import rights_of
from kstream.specs.rights import Right, Who

SERVICE = """
import kstream

app = kstream.App("shop", on_error=[kstream.RetryLater([5]), kstream.DeadLetter()])
orders = app.topic("orders", key=str, value=str)
names = app.global_table(app.topic("names", key=str, value=str))
app.stream(orders).join(names, lambda order, name: order + name, on=str).group_by(str, name="by", key=str).count(
    name="n").to(app.topic("counts", key=str, value=int))

@app.agent(app.topic("plain", key=str, value=str), group="apart")
def look(one: str) -> None:
    pass
"""


@pytest.fixture
def topology(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "acls_service.py").write_text(SERVICE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return load_app("acls_service:app").topology()


def each(topology: Any, who: Who, **settings: Any) -> set[tuple[str, str, str]]:
    return {one for right in rights_of(topology, Settings(**settings), who) for one in right.each()}


def test_what_runs_needs_what_it_uses(topology: Any) -> None:
    made = ("CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE")
    internal = {
        "shop-by-repartition": (*made, "DELETE"), "shop-orders-retry-5s": (*made, "DELETE"), "shop-n-changelog": made,
        "shop-by-repartition-retry-5s": (*made, "DELETE"), "shop-plain-apart-retry-5s": (*made, "DELETE"),
        "shop-store-types": made, "shop-instances": made, "shop-control": made,
    }  # fmt: skip
    users = {("topic", name, "READ") for name in ("orders", "names", "plain")}
    users |= {("topic", name, "WRITE") for name in ("counts", "shop-dead-letters")}
    rest = {("group", "shop", "READ"), ("group", "shop-apart", "READ"), ("transactional_id", "shop-*", "WRITE")}
    assert each(topology, "app") == users | rest | {
        ("topic", name, one) for name, operations in internal.items() for one in operations
    }


def test_settings_that_need_less(topology: Any) -> None:
    less = each(topology, "app", processing_guarantee="at_least_once", announce_interval=0.0)
    assert each(topology, "app") - less == {
        ("transactional_id", "shop-*", "WRITE"),
        *(("topic", "shop-instances", one) for one in ("CREATE", "DESCRIBE_CONFIGS", "READ", "WRITE")),
    }


def test_of_those_who_work_beside_it(topology: Any) -> None:
    makes = each(topology, "topics")
    assert {("topic", one, "CREATE") for one in ("orders", "names", "plain", "counts", "shop-dead-letters")} <= makes
    assert {one for one in each(topology, "app") if one[2] in ("CREATE", "DESCRIBE_CONFIGS")} <= makes
    assert {operation for _, _, operation in makes} == {"CREATE", "DESCRIBE", "DESCRIBE_CONFIGS"}
    assert {operation for _, _, operation in each(topology, "autoscaler")} == {"DESCRIBE"}
    assert {name for _, name, _ in each(topology, "autoscaler")} >= {
        "orders",
        "shop",
        "shop-apart",
        "shop-orders-retry-5s",
    }
    assert {operation for _, _, operation in each(topology, "reset")} == {"DELETE"}
    assert ("topic", "orders", "DELETE") not in each(topology, "reset")
    assert ("transactional_id", "shop-dlq", "WRITE") in each(topology, "dlq")
    assert ("topic", "orders", "WRITE") in each(topology, "dlq")


@pytest.mark.parametrize("who", get_args(Who))
def test_each_form_says_the_same(topology: Any, who: Who) -> None:
    rights = rights_of(topology, Settings(), who)
    assert rights == given(commands(rights, "us er", "k:1")) == user(kafka_user(rights, "us er"))
    assert len(list(table(rights))) == len(rights) + 1


def given(lines: Any) -> list[Right]:
    """What commands say, as a shell splits them."""
    found = []
    for line in lines:
        words = shlex.split(line)
        head = ["kafka-acls.sh", "--bootstrap-server", "k:1", "--add", "--allow-principal", "User:us er"]
        assert words[:6] == head
        options = list(zip(words[6::2], words[7::2], strict=True))
        operations = tuple(_asked(value) for name, value in options if name == "--operation")
        (kind, name), *_ = options
        prefix = ("--resource-pattern-type", "prefixed") in options
        found.append(_without_why(kind.removeprefix("--").replace("-", "_"), name, operations, prefix))
    return found


def user(lines: Any) -> list[Right]:
    """What a KafkaUser says."""
    made = yaml.safe_load("\n".join(lines))
    assert (made["kind"], made["metadata"]["name"]) == ("KafkaUser", "us er")
    assert made["spec"]["authorization"]["type"] == "simple"
    return [
        _without_why(
            one["resource"]["type"].replace("transactionalId", "transactional_id"),
            one["resource"]["name"],
            tuple(map(_asked, one["operations"])),
            one["resource"]["patternType"] == "prefix",
        )
        for one in made["spec"]["authorization"]["acls"]
    ]


class _Anything(str):
    """Why a right is needed, which only the table says."""

    __slots__ = ()

    def __eq__(self, _: object) -> bool:
        return True

    __hash__ = str.__hash__


def _without_why(kind: Any, name: str, operations: tuple[str, ...], prefix: bool) -> Right:
    return Right(kind, name, operations, _Anything(), prefix)


def _asked(operation: str) -> str:
    return {"DescribeConfigs": "DESCRIBE_CONFIGS"}.get(operation, operation.upper())


def test_names_that_yaml_would_read_otherwise_are_quoted() -> None:
    (right,) = user(kafka_user([Right("topic", "1", ("READ",))], "us er"))
    assert right.name == "1"
    assert user(kafka_user([Right("topic", "no", ("READ",))], "us er"))[0].name == "no"


def test_the_command(topology: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["acls", "acls_service:app"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("RESOURCE ") and "transactional id  shop-* " in told
    assert main(["acls", "acls_service:app", "--format", "kafka-acls", "--for", "autoscaler"]) == 0
    assert "--allow-principal User:shop-autoscaler" in capsys.readouterr().out
    assert main(["acls", "acls_service:app", "--format", "kafka-acls", "--for", "topics"]) == 0
    assert "--allow-principal User:shop-topics" in capsys.readouterr().out, "a user of its own"
    assert main(["acls", "acls_service:app", "--format", "xml"]) == 2


@pytest.mark.parametrize(
    "form,said",
    [
        ("text", "plain has no dead letters: dlq needs no rights\n"),
        ("kafka-acls", "# plain has no dead letters: dlq needs no rights\n"),
    ],
)
def test_where_there_is_nothing_to_give_a_line_says_so(
    topology: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, said: str
) -> None:
    (tmp_path / "acls_plain.py").write_text(
        'import kstream\n\napp = kstream.App("plain")\napp.stream(app.topic("in", key=str, value=str)).peek(print)\n'
    )
    assert main(["acls", "acls_plain:app", "--for", "dlq", "--format", form]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("who", ["reset", "dlq"])
def test_a_kafka_user_is_whole(topology: Any, capsys: pytest.CaptureFixture[str], who: Who) -> None:
    """Who applies one replaces that user's rights: with nothing but what is taken besides, the app would stop."""
    arguments = ["--format", "strimzi", "--principal", "us er", "--for", who]
    assert main(["acls", "acls_service:app", *arguments]) == 0
    rights = user(capsys.readouterr().out.splitlines())
    assert {one for right in rights for one in right.each()} == each(topology, "app") | each(topology, who)
    assert len({(right.kind, right.name, right.prefix) for right in rights}) == len(rights)
