"""The options that several ``forkserver`` commands have in common. Runs in the operator's command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from forkserver.front.terminal import escape
from forkserver.settings import FIELDS

Command = Callable[..., int]

_NAMES = (
    "root",
    "bind",
    "port",
    "spare",
    "connections_per_child",
    "max_children",
    "max_per_peer",
    "hidden",
    "bare",
    "log_format",
)
"""The settings that have an option; the configuration file has all settings."""


class CommandWithoutArguments(click.Command):
    """A command that takes options only. Its error about an argument suggests ``--root``."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Raise UsageError if arguments are left after the options."""
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            words = escape(" ".join(rest))
            is_root = len(rest) == 1 and ctx.params["root"] is None
            remedy = f"did you mean --root {words}?" if is_root else "leave it out"
            raise click.UsageError(f"{words}: is not an option; {remedy}", ctx)
        return rest


def settings_options(command: Command) -> Command:
    """Give a command ``--config`` and an option for each of ``_NAMES``, as keyword arguments of these names."""
    for name in reversed(_NAMES):
        command = _option(name)(command)
    return click.option("--config", metavar="FILE", help="settings in TOML, see forkserver.toml(5)")(command)


def _option(name: str) -> Callable[[Command], Command]:
    default, meaning, choices = FIELDS[name].default, FIELDS[name].meaning, FIELDS[name].choices
    flag = f"--{name.replace('_', '-')}"
    if isinstance(default, bool):
        # Both forms, so that the command line can also switch off what the file switches on.
        return click.option(f"{flag}/--no-{name}", default=None, help=meaning)
    if isinstance(default, tuple):
        more = "an IPv6 address with a port needs its brackets; may be given several times"
        several = f"{meaning}; {more}  [default: {', '.join(default)}]"
        return click.option(flag, metavar="ADDR", multiple=True, help=several)
    if choices:
        return click.option(flag, metavar="|".join(choices), help=f"{meaning}  [default: {default}]")
    metavar = "DIR" if isinstance(default, str) else "N"
    return click.option(flag, metavar=metavar, type=type(default), help=f"{meaning}  [default: {default}]")


def given(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are on the command line: click passes None or ``()`` for the others."""
    return {name: value for name, value in options.items() if value is not None and value != ()}
