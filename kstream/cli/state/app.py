"""The commands of `kstream state`; `export` and `import` are with those of savepoints. Each one's module is imported
when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from kstream.cli.options import AsJson, Assignments, Config, Key, Servers, StateDir, Store, Target, Token

state = typer.Typer(
    name="state", help="What an app's stores hold: in a running instance, or on disk.", no_args_is_help=True
)  # fmt: skip

Url = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Ask this running instance (default: the state directory of stopped ones)."
    ),
]


@state.command("ls")
def ls(
    target: Target,
    url: Url = None,
    token: Token = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """List the stores of an app: partitions, entries, size, types."""
    from kstream.cli.operate import subject
    from kstream.cli.state import listing

    on = subject(target, bootstrap_servers, set_ or [], config)
    return listing.ls(on, url, token, state_dir, as_json=as_json)


@state.command("get")
def get(
    target: Target,
    store: Store,
    key: Key = None,
    prefix: Annotated[
        str | None, typer.Option("--prefix", metavar="KEY", help="Show entries whose keys begin with this.")
    ] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="KEY", help="Show entries from this key on.")] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="KEY", help="Show entries before this key.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show so many entries at most.")] = 100,
    url: Url = None,
    token: Token = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show committed entries of a store."""
    from kstream.cli.operate import subject
    from kstream.cli.state import reading

    on = subject(target, bootstrap_servers, set_ or [], config)
    given = {"prefix": prefix, "from": first, "to": to}
    wanted = {name: text for name, text in given.items() if text is not None}
    return reading.get(on, store, key, wanted, limit, url, token, state_dir, as_json=as_json)


@state.command("top")
def top(
    target: Target,
    store: Annotated[
        str | None,
        typer.Argument(metavar="STORE", help="Show this store only (default: all of them).", show_default=False),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, metavar="N", help="Show so many entries of each store.")] = 10,
    url: Url = None,
    token: Token = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Show the largest entries, and in a running instance the keys used most."""
    from kstream.cli.operate import subject
    from kstream.cli.state import largest

    on = subject(target, bootstrap_servers, set_ or [], config)
    return largest.top(on, store, count, url, token, state_dir, as_json=as_json)


@state.command("sql")
def sql(
    target: Target,
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="SQL; each store is a table with the columns key, value, partition.")
    ],
    snapshots: Annotated[
        bool, typer.Option("--snapshots", help="Ask the newest snapshot of each task (default: the state directory).")
    ] = False,
    savepoint: Annotated[str | None, typer.Option("--savepoint", metavar="NAME", help="Ask this savepoint.")] = None,
    place: Annotated[
        str | None,
        typer.Option("--place", metavar="URL", help="Where the savepoint lies (default: the setting savepoints)."),
    ] = None,
    state_dir: StateDir = None,
    as_json: AsJson = False,
    bootstrap_servers: Servers = None,
    config: Config = None,
    set_: Assignments = None,
) -> int:
    """Ask state in SQL: of a stopped instance, of snapshots or a savepoint (DuckDB; the extra sql)."""
    from kstream.cli.operate import subject
    from kstream.cli.state import sql as command

    on = subject(target, bootstrap_servers, set_ or [], config)
    return command.sql(
        on, query, state_dir, snapshots=snapshots, savepoint=savepoint, place=place, as_json=as_json
    )  # fmt: skip
