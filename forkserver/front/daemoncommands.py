"""The commands to a daemon: ``start``, ``stop``, ``restart``, ``status``, ``reload``, ``reopen``.

Runs in the operator's command.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import click

from forkserver.errors import OperatorError
from forkserver.front import daemoncontrol, daemonuser, pidfile
from forkserver.front.daemoncontrol import DaemonState, StartOutcome
from forkserver.front.daemonoptions import DaemonOptions
from forkserver.front.daemonuser import DaemonUser
from forkserver.front.options import CommandWithoutArguments, given, settings_options
from forkserver.front.terminal import complain, escape, warn
from forkserver.settings import Settings
from forkserver.supervisor import logsocket, operator

RELOAD_TIMEOUT_S = 60.0
SYSTEMD = "/run/systemd/system"
"""This directory exists if systemd is the machine's first process, sd_booted(3)."""

_pid_file_option = click.option(
    "--pid-file",
    metavar="FILE",
    default=pidfile.DEFAULT_PATH,
    show_default=True,
    help="the server's PID, locked while it runs",
)
_timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="how long transfers may take to finish  [default: the server's drain_s]",
)


def _start_options(command: Callable[..., int]) -> Callable[..., int]:
    for option in (
        click.option("--group", metavar="GROUP", help="and with this group  [default: the user's]"),
        click.option("--user", metavar="USER", help="run as this user; only root can"),
        click.option("--syslog", is_flag=True, help="send the log to syslog(3), instead of a file"),
        click.option("--log-file", metavar="FILE", help="append the log to this file"),
        _pid_file_option,
        settings_options,
    ):
        command = option(command)
    return command


@click.command(cls=CommandWithoutArguments)
@_start_options
def start(pid_file: str, **options: Any) -> int:
    """Start a daemon, for hosts without systemd; returns when it serves."""
    daemon = _to_daemon_options(**options)
    settings, user = _check(daemon)
    return _start(os.path.abspath(pid_file), daemon, settings, user)


@click.command()
@_pid_file_option
@_timeout_option
def stop(pid_file: str, timeout: float | None) -> int:
    """Stop the daemon; returns when it has ended."""
    pid = daemoncontrol.stop(pid_file, timeout)
    if pid is not None:
        return _say(f"stopped, PID {pid}")
    if pidfile.written(pid_file) is None:
        return _say("not running")
    pidfile.remove_stale(pid_file)
    removed = "could not be removed" if os.path.exists(pid_file) else "is removed"
    return _say(f"not running; the PID file that a dead daemon left, {escape(pid_file)}, {removed}")


@click.command(cls=CommandWithoutArguments)
@_start_options
@_timeout_option
def restart(pid_file: str, timeout: float | None, **options: Any) -> int:
    """Check the settings, stop the daemon if it runs, start it."""
    daemon = _to_daemon_options(**options)
    settings, user = _check(daemon)
    pid_path = os.path.abspath(pid_file)
    stopped = daemoncontrol.stop(pid_path, timeout)
    return _start(pid_path, daemon, settings, user, stopped)


@click.command()
@click.option(
    "--pid", type=int, envvar="MAINPID", help="PID of the server's supervisor, instead of a file's  [env: MAINPID]"
)
@_pid_file_option
def reload(pid: int | None, pid_file: str) -> int:
    """Have a running server read its settings anew; returns when they are in force, or says why not."""
    if pid is None and (pid := pidfile.holder(pid_file)) is None:
        remedy = _systemctl_hint("reload", pid_file) or "name another file, or give --pid"
        raise OperatorError(f"{escape(pid_file)}: no server holds this PID file; {remedy}")
    if warning := operator.ask(pid, operator.RELOAD, RELOAD_TIMEOUT_S):
        warn(escape(warning))
    return 0


@click.command()
@_pid_file_option
def reopen(pid_file: str) -> int:
    """Have the daemon reopen its log file, once that was renamed; returns when new connections are logged there."""
    pid = pidfile.holder(pid_file)
    if pid is None:
        return _say("not running")
    operator.ask(pid, operator.REOPEN, RELOAD_TIMEOUT_S)
    return 0


@click.command()
@_pid_file_option
def status(pid_file: str) -> int:
    """Say whether the daemon runs: 0 if so, 1 if it died, 3 if not."""
    found = daemoncontrol.status(pid_file)
    if found.state is DaemonState.RUNNING:
        line = f"running, PID {found.pid}, {escape(found.report)}"
    elif found.state is DaemonState.DEAD:
        line = f"dead: it was PID {found.pid}, and its PID file {escape(pid_file)} is still there"
    else:
        line = "not running"
    if found.state is not DaemonState.RUNNING and (hint := _systemctl_hint("status", pid_file)):
        line = f"{line}; {hint}"
    _say(line)
    return found.state


COMMANDS = (start, stop, restart, status, reload, reopen)


def _systemctl_hint(verb: str, path: str) -> str:
    """Return a hint at the service under systemd, which has no PID file; empty where the service cannot be meant."""
    if path != pidfile.DEFAULT_PATH or not os.path.isdir(SYSTEMD):
        return ""
    return f"of the service under systemd use `systemctl {verb} forkserver`"


def _to_daemon_options(
    *, config: str | None, log_file: str | None, syslog: bool, user: str | None, group: str | None, **settings: Any
) -> DaemonOptions:
    if syslog and log_file is not None:
        raise click.UsageError("--syslog and --log-file exclude each other; leave one out", click.get_current_context())
    return DaemonOptions(
        config=None if config is None else os.path.abspath(config),
        settings=given(settings),
        directory=os.getcwd(),
        log_path=None if log_file is None else os.path.abspath(log_file),
        syslog=syslog,
        user=user,
        group=group,
    )


def _check(daemon: DaemonOptions) -> tuple[Settings, DaemonUser | None]:
    """Return settings and user of the daemon. Raises OperatorError if they are wrong or ``--syslog`` has no logger.

    After an error ``restart`` stops nothing. Addresses, PID file and log file are not checked: the running daemon has
    them.
    """
    settings = daemon.load()
    user = daemonuser.find(daemon.user, daemon.group)
    if user:
        user.check_access(settings.root)
    if daemon.syslog:
        os.close(logsocket.connect())
    return settings, user


def _start(
    pid_path: str, daemon: DaemonOptions, settings: Settings, user: DaemonUser | None, stopped: int | None = None
) -> int:
    """Start the daemon, report the result, and return the exit status. ``stopped`` is the PID of the daemon before."""
    result = daemoncontrol.start(pid_path, daemon)
    if result.outcome is StartOutcome.FAILED:
        served = "" if stopped is None else f"; PID {stopped}, which served before, is stopped"
        complain(f"{result.complaint}{served}")
        return result.exit_status
    if result.outcome is StartOutcome.ALREADY_RUNNING:
        return _say(f"already running as PID {result.pid}")
    _say(f"started, PID {result.pid}, serving {escape(settings.root)} on {result.addresses}")
    if os.geteuid() == 0 and (user is None or user.uid == 0):
        warn("the daemon runs as root; give it a user of its own with --user")
    if daemon.config is not None and user and not _can_read(user, daemon.config):
        remedy = "give that user the right to read it, or a reload will fail"
        warn(f"{escape(daemon.config)}: the daemon's user cannot read it; {remedy}")
    return 0


def _can_read(user: DaemonUser, path: str) -> bool:
    with user.acting():
        return os.access(path, os.R_OK, effective_ids=True)


def _say(line: str) -> int:
    click.echo(f"forkserver: {line}")
    return 0
