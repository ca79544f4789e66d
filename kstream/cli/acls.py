"""`kstream acls`: the least rights in Kafka that an app needs, in the forms that give them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, cast, get_args

import typer

from kstream.cli.options import Assignments, Config, Servers, Target
from kstream.errors import ConfigError
from kstream.specs.rights import Right, Who

FORMATS = ("text", "kafka-acls", "strimzi")
BESIDES = ("reset", "dlq")
"""What the app's own user takes besides. Others have a user of their own."""


def acls(
    target: Target,
    form: Annotated[
        str,
        typer.Option(
            "--format", metavar="|".join(FORMATS), help="As a table, as commands, or as a KafkaUser of Strimzi's."
        ),
    ] = "text",
    who: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="|".join(get_args(Who)),
            help="app: to run; topics: to make them; reset, dlq: what these need besides; autoscaler: to see lags.",
        ),
    ] = "app",
    principal: Annotated[
        str | None,
        typer.Option(
            "--principal",
            metavar="USER",
            help="User that gets them (default: APP, APP-topics or APP-autoscaler).",
        ),
    ] = None,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """List the least rights in Kafka that an app needs. No broker is asked, and nothing is given."""
    _check(form, FORMATS, "--format")
    _check(who, get_args(Who), "--for")
    from kstream.cli import human
    from kstream.cli.operate import subject
    from kstream.runtime.cluster.rights import rights_of

    on = subject(target, bootstrap_servers, set_ or [], config)
    assert on.app is not None
    whose = [cast("Who", who)]
    if form == "strimzi" and who in BESIDES:  # a KafkaUser that is applied takes the place of the one before
        whose.insert(0, "app")
    rights = rights_of(on.app.topology(), on.settings, *whose)
    user = principal or (on.app.name if who in ("app", *BESIDES) else f"{on.app.name}-{who}")
    if form == "kafka-acls":
        lines = list(commands(rights, user, on.servers))
    elif form == "strimzi":
        lines = list(kafka_user(rights, user))
    else:
        lines = list(table(rights))
    if not rights:  # of BESIDES only dlq can come to nothing
        lines = [f"{'# ' if form == 'kafka-acls' else ''}{on.app.name} has no dead letters: {who} needs no rights"]
    human.write("\n".join(lines))
    return 0


def _check(given: str, known: Sequence[Any], option: str) -> None:
    if given not in known:
        raise ConfigError(f"{option} {given}: there is {', '.join(known)}")


def table(rights: Sequence[Right]) -> Iterator[str]:
    rows = [("RESOURCE", "NAME", "OPERATIONS", "WHY")]
    for one in rights:
        name = f"{one.name}*" if one.prefix else one.name
        rows.append((one.kind.replace("_", " "), name, ", ".join(one.operations), one.why))
    widths = [max(len(row[place]) for row in rows) for place in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        yield "  ".join([*cells, row[3]]).rstrip()


def commands(rights: Sequence[Right], user: str, servers: str) -> Iterator[str]:
    """A command of Kafka's for each resource."""
    for one in rights:
        yield shlex.join(
            [
                "kafka-acls.sh", "--bootstrap-server", servers, "--add", "--allow-principal", f"User:{user}",
                f"--{one.kind.replace('_', '-')}", one.name,
                *(["--resource-pattern-type", "prefixed"] if one.prefix else []),
                *(word for operation in one.operations for word in ("--operation", _called(operation))),
            ]
        )  # fmt: skip


def kafka_user(rights: Sequence[Right], user: str) -> Iterator[str]:
    """A KafkaUser of Strimzi's. How it is let in (`authentication:`), and the label of its cluster, are the user's to
    say."""
    yield "apiVersion: kafka.strimzi.io/v1beta2"
    yield "kind: KafkaUser"
    yield "metadata:"
    yield f"  name: {json.dumps(user)}"
    yield "spec:"
    yield "  authorization:"
    yield "    type: simple"
    yield "    acls:"
    for one in rights:
        kind = "transactionalId" if one.kind == "transactional_id" else one.kind
        yield "      - resource:"
        yield f"          type: {kind}"
        yield f"          name: {json.dumps(one.name)}"
        yield f"          patternType: {'prefix' if one.prefix else 'literal'}"
        yield f"        operations: [{', '.join(map(_called, one.operations))}]"


def _called(operation: str) -> str:
    """DESCRIBE_CONFIGS as tools write it."""
    return operation.title().replace("_", "")
