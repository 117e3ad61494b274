"""The ``forkserver`` command: parse the command line, run one command, report errors.

Runs in the operator's command. No command shows a traceback: ``run`` turns every failure into one line and an exit
status.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from forkserver import __version__
from forkserver.errors import EX_BUG, EX_CONFIG, OperatorError
from forkserver.front import configfile, daemoncommands, daemonuser
from forkserver.front import units as unit_files
from forkserver.front.options import CommandWithoutArguments, given, settings_options
from forkserver.front.terminal import complain, describe_bug, escape, warn
from forkserver.settings import FIELDS, Settings

EX_OUTPUT = 74
"""Standard output takes nothing: EX_IOERR of sysexits(3)."""
EX_INTERRUPTED = 130
"""Ended by the operator's Ctrl-C, as shells report it: 128 plus SIGINT."""


def main() -> None:
    """Run the command of the process's arguments, then exit with its status."""
    status = run()
    if status == EX_OUTPUT and sys.stdout is not None:
        # The interpreter flushes standard output as it ends; a failure there would be a second complaint.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(status)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command (None: the process's own arguments) and return the exit status.

    2: the command line is wrong. 70: a bug, reported in one line. 74: standard output is full or closed. 78: the
    settings are wrong. 130: Ctrl-C. Any other status is the command's own, 0 for success.
    """
    # Output is held back until the command has ended, so that a failed write cannot be taken for the server's failure.
    printed = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="surrogateescape")
    with contextlib.redirect_stdout(printed):
        status = _run(arguments)
    printed.flush()
    try:
        _print(printed.buffer.getvalue())
    except OSError as error:
        complain(f"standard output: {error.strerror}")
        return EX_OUTPUT
    return status


def _print(data: bytes) -> None:
    if not data:
        return
    if sys.stdout is None:  # closed before this process started
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
        complain(str(error))
        return EX_CONFIG
    except Exception as error:  # noqa: BLE001 - our own bug, at the outermost place: one line instead of a traceback
        complain(describe_bug(error))
        return EX_BUG


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forkserver", message="%(prog)s %(version)s")
def forkserver() -> None:
    """Serve the files of a directory: one transfer, one process."""


@forkserver.command(cls=CommandWithoutArguments)
@settings_options
def serve(config: str | None, **options: Any) -> int:
    """Serve until SIGTERM or Ctrl-C, then let transfers finish."""
    load = functools.partial(configfile.load, config, given(options))
    settings = load()
    # Imported here, so that `check` and `--help` do not wait for modules that they do not use.
    from forkserver.supervisor import supervise  # noqa: PLC0415 - see above

    return supervise.main(settings, load)


@forkserver.command(cls=CommandWithoutArguments)
@settings_options
@click.option("--user", metavar="USER", help="check as this user, too; only root can")
def check(config: str | None, user: str | None, **options: Any) -> int:
    """Check the settings, and print those in effect as a configuration file."""
    settings = configfile.load(config, given(options))
    text = configfile.dump(settings)
    if found := daemonuser.find(user, None):
        found.check_access(settings.root)
        with found.acting():
            configfile.load(config, given(options))
    # As bytes: a configuration file is UTF-8 in every locale.
    click.echo(text.encode("utf-8"), nl=False)
    if config is not None:
        _warn_of_unused_addresses(settings, config)
    return 0


def _warn_of_unused_addresses(settings: Settings, config: str) -> None:
    """Warn if ``config`` is the file of the service under systemd and names addresses: systemd passes the sockets."""
    named = [name for name in ("bind", "port") if getattr(settings, name) != FIELDS[name].default]
    if named and unit_files.passes_sockets(config):
        remedy = "systemd passes the sockets of forkserver.socket; change those with `systemctl edit forkserver.socket`"
        warn(f"{escape(config)}: not used by the service: {' and '.join(named)}: {remedy}")


@forkserver.command()
@click.option("--prefix", metavar="DIR", default="/", help="directory that stands for /  [default: /]")
def units(prefix: str) -> int:
    """Write units for systemd, that run this installation, and a configuration file if there is none."""
    for line in unit_files.write(prefix):
        click.echo(line)
    for line in unit_files.warnings():
        warn(line)
    return 0


for command in daemoncommands.COMMANDS:
    forkserver.add_command(command)


if __name__ == "__main__":
    main()
