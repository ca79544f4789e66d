"""The commands that are made for a call: the one that is named alone, where one is."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import typer
from typer.models import CommandInfo


def named(commands: typer.Typer, arguments: Sequence[str]) -> typer.Typer:
    """`commands`, or what has nothing but the command that is named first: to make all of them takes 50 ms, which each
    start would wait for."""
    wanted = [one for one in commands.registered_commands if arguments and _name_of(one) == arguments[0]]
    if not wanted:
        return commands
    alone = copy(commands)
    alone.registered_commands, alone.registered_groups = wanted, []
    return alone


def _name_of(command: CommandInfo) -> str:
    return command.name or typer.main.get_command_name(getattr(command.callback, "__name__", ""))
