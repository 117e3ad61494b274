"""The ``forkserver`` command: the operator's words to ``Settings``, and on to the supervisor. Runs in the front.

It never shows a traceback: see ``run`` for what becomes of each kind of failure.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import click

from forkserver import __version__
from forkserver.errors import EX_BUG, EX_CONFIG, OperatorError
from forkserver.front import configfile, daemoncli
from forkserver.settings import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkserver.settings import Settings

EX_OUTPUT = 74
"""Standard output takes nothing: EX_IOERR of sysexits(3)."""
EX_INTERRUPTED = 130
"""Ended by the operator's Ctrl-C, as shells report it: 128 and SIGINT."""

_OPTIONS = (
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
"""The settings that have an option of their own; the file has them all."""


def main() -> None:
    """Entry point of the ``forkserver`` command: ``run``, then exit with its status."""
    status = run()
    if status == EX_OUTPUT and sys.stdout is not None:
        # Keep the interpreter from complaining once more, as it ends, of what it cannot flush.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command (None: the process's own arguments) and return the exit status.

    2: the command line is wrong. 70: we are, and one line says where. 74: standard output is full or closed. 78: the
    settings are wrong. 130: Ctrl-C. Else the command's own, 0 when all went well.
    """
    # What is printed is held back till the end, so that a failure to print cannot be taken for one of the server.
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with contextlib.redirect_stdout(printed):
        status = _run(arguments)
    printed.flush()
    try:
        _print(printed.buffer.getvalue())
    except OSError as error:
        _complain(f"standard output: {error.strerror}")
        return EX_OUTPUT
    return status


def _print(data: bytes) -> None:
    if not data:
        return
    if sys.stdout is None:  # closed before we were started
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _run(arguments: Sequence[str] | None) -> int:
    try:
        return int(forkserver.main(arguments, prog_name="forkserver", standalone_mode=False) or 0)
    except click.ClickException as error:
        with contextlib.suppress(OSError):
            error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EX_INTERRUPTED
    except OperatorError as error:
        _complain(str(error))
        return EX_CONFIG
    except Exception as error:  # noqa: BLE001 - our own bug, at the outermost place: one line instead of a traceback
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {configfile.escape(str(error))}"
        _complain(f"bug: {what}, at {last.filename}:{last.lineno}; please report it")
        return EX_BUG


def _complain(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody left to tell
        click.echo(f"forkserver: {line}", err=True)


class _OptionsOnly(click.Command):
    """A command without arguments. A word among its options is most likely the directory to serve."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            words = configfile.escape(" ".join(rest))
            remedy = (
                f"did you mean --root {words}?" if len(rest) == 1 and ctx.params["root"] is None else "leave it out"
            )
            raise click.UsageError(f"{words}: is not an option; {remedy}", ctx)
        return rest


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forkserver", message="%(prog)s %(version)s")
def forkserver() -> None:
    """Serve the files of a directory: one transfer, one process."""


def _settings_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command ``--config`` and ``_OPTIONS``, as keyword arguments; None or ``()`` where not given."""
    for name in reversed(_OPTIONS):
        command = _option(name)(command)
    return click.option("--config", metavar="FILE", help="settings in TOML, see forkserver.toml(5)")(command)


def _option(name: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    default, meaning, choices = FIELDS[name].default, FIELDS[name].meaning, FIELDS[name].choices
    flag = f"--{name.replace('_', '-')}"
    if isinstance(default, bool):
        # Both ways, so that the command line can also switch off what the file switches on.
        return click.option(f"{flag}/--no-{name}", default=None, help=meaning)
    if isinstance(default, tuple):
        more = "an IPv6 address with a port needs its brackets; may be given several times"
        several = f"{meaning}; {more}  [default: {', '.join(default)}]"
        return click.option(flag, metavar="ADDR", multiple=True, help=several)
    if choices:
        return click.option(flag, metavar="|".join(choices), help=f"{meaning}  [default: {default}]")
    metavar = "DIR" if isinstance(default, str) else "N"
    return click.option(flag, metavar=metavar, type=type(default), help=f"{meaning}  [default: {default}]")


def _settings(config: str | None, options: dict[str, Any]) -> Settings:
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    return configfile.load(config, given)


@forkserver.command(cls=_OptionsOnly)
@_settings_options
def serve(config: str | None, **options: Any) -> int:
    """Serve until SIGTERM or Ctrl-C, then let transfers finish."""
    settings = _settings(config, options)
    # Here, and not above, so that `check` and `--help` do not wait for what they do not use.
    from forkserver.supervisor import supervise  # noqa: PLC0415 - see above

    return supervise.main(settings, functools.partial(_settings, config, options))


@forkserver.command(cls=_OptionsOnly)
@_settings_options
@click.option("--user", metavar="USER", help="check as this user, too; only root can")
def check(config: str | None, user: str | None, **options: Any) -> int:
    """Check the settings, and print those in effect as a configuration file."""
    settings = _settings(config, options)
    text = configfile.dump(settings)
    if user is not None:
        from forkserver.front import owner, preflight  # noqa: PLC0415 - as in `serve`

        if them := owner.find(user, None):
            preflight.check_user(them, settings.root)
            with them.acting():
                _settings(config, options)
    # As bytes: a configuration file is UTF-8 wherever it is written.
    click.echo(text.encode("utf-8"), nl=False)
    if config is not None:
        _warn_of_unused_addresses(settings, config)
    return 0


def _warn_of_unused_addresses(settings: Settings, config: str) -> None:
    """Warn where ``config``, the file of the service under systemd, names addresses: systemd passes the sockets."""
    from forkserver.front import units as files  # noqa: PLC0415 - as in `serve`

    named = [name for name in ("bind", "port") if getattr(settings, name) != FIELDS[name].default]
    if named and files.passes_sockets(config):
        remedy = "systemd passes the sockets of forkserver.socket; change those with `systemctl edit forkserver.socket`"
        _complain(f"warning: {configfile.escape(config)}: not used by the service: {' and '.join(named)}: {remedy}")


daemoncli.add_to(forkserver, _OptionsOnly, _settings_options)


@forkserver.command()
@click.option("--prefix", metavar="DIR", default="/", help="directory that stands for /  [default: /]")
def units(prefix: str) -> int:
    """Write units for systemd, that run this installation, and a configuration file if there is none."""
    from forkserver.front import units as files  # noqa: PLC0415 - as in `serve`

    for line in files.write(prefix):
        click.echo(line)
    for line in files.warnings():
        _complain(f"warning: {line}")
    return 0


if __name__ == "__main__":
    main()
