"""The commands to a daemon: ``start``, ``stop``, ``restart``, ``status``, ``reload``, ``reopen``. Runs in the front."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import click

from forkserver.errors import EX_CONFIG, OperatorError
from forkserver.front import lifecycle, pidfile
from forkserver.front.configfile import escape
from forkserver.supervisor import operator

if TYPE_CHECKING:
    from collections.abc import Callable

    Decorator = Callable[[Callable[..., int]], Callable[..., int]]

RELOAD_TIMEOUT_S = 60.0
SYSTEMD = "/run/systemd/system"
"""Is there where systemd is the machine's first process, sd_booted(3)."""

_PID_FILE = click.option(
    "--pid-file",
    metavar="FILE",
    default=pidfile.DEFAULT_PATH,
    show_default=True,
    help="the server's PID, locked while it runs",
)
_PID = click.option(
    "--pid", type=int, envvar="MAINPID", help="PID of the server's supervisor, instead of a file's  [env: MAINPID]"
)
_TIMEOUT = click.option(
    "--timeout",
    type=click.FloatRange(0, 86400),
    metavar="SECONDS",
    help="how long transfers may take to finish  [default: the server's drain_s]",
)
_BIRTH = (
    click.option("--log-file", metavar="FILE", help="append the log to this file"),
    click.option("--syslog", is_flag=True, help="send the log to syslog(3), instead of a file"),
    click.option("--user", metavar="USER", help="run as this user; only root can"),
    click.option("--group", metavar="GROUP", help="and with this group  [default: the user's]"),
)


def add_to(group: click.Group, options_only: type[click.Command], settings_options: Decorator) -> None:
    """Add the commands to ``group``; ``settings_options`` gives a command the options of ``serve``."""

    def with_all_options(command: Callable[..., int]) -> Callable[..., int]:
        for option in reversed((_PID_FILE, *_BIRTH)):
            command = option(command)
        return settings_options(command)

    group.command(cls=options_only)(with_all_options(start))
    group.command()(_PID_FILE(_TIMEOUT(stop)))
    group.command(cls=options_only)(with_all_options(_TIMEOUT(restart)))
    group.command()(_PID_FILE(status))
    group.command()(_PID(_PID_FILE(reload)))
    group.command()(_PID_FILE(reopen))


def start(**options: Any) -> int:
    """Start a daemon, for hosts without systemd; returns when it serves."""
    order = _order(options)
    return _tell_start(order, *lifecycle.start(order))


def stop(pid_file: str, timeout: float | None) -> int:
    """Stop the daemon; returns when it has ended."""
    stale = lifecycle.status(pid_file)[0] == 1
    pid = lifecycle.stop(pid_file, timeout)
    if pid is not None:
        return _tell(0, f"stopped, PID {pid}")
    if not stale:
        return _tell(0, "not running")
    pidfile.remove_stale(pid_file)
    left = "is of no use" if os.path.exists(pid_file) else "is removed"
    return _tell(0, f"not running; the PID file that a dead one left, {escape(pid_file)}, {left}")


def restart(timeout: float | None, **options: Any) -> int:
    """Check the settings, stop the daemon if it runs, start it."""
    order = _order(options)
    running = pidfile.holder(order.pid_path)
    if running is not None:
        order.check_beside(running)
    stopped = lifecycle.stop(order.pid_path, timeout)
    try:
        status, line = lifecycle.start(order)
    except OperatorError as error:
        status, line = EX_CONFIG, str(error)
    gone = f"; PID {stopped}, which served before, is stopped" if status and stopped is not None else ""
    return _tell_start(order, status, line + gone)


def reload(pid: int | None, pid_file: str) -> int:
    """Have a running server read its settings anew; returns when they are in force, or says why not."""
    if pid is None and (pid := pidfile.holder(pid_file)) is None:
        remedy = _service("reload", pid_file) or "give another, or --pid"
        raise OperatorError(f"{escape(pid_file)}: no server holds this PID file; {remedy}")
    if warning := operator.ask(pid, operator.RELOAD, RELOAD_TIMEOUT_S):
        _warn(escape(warning))
    return 0


def reopen(pid_file: str) -> int:
    """Have the daemon reopen its log file, once that was renamed; returns when new connections are logged there."""
    pid = pidfile.holder(pid_file)
    if pid is None:
        return _tell(0, "not running")
    operator.ask(pid, operator.REOPEN, RELOAD_TIMEOUT_S)
    return 0


def status(pid_file: str) -> int:
    """Say whether the daemon runs: 0 if so, 1 if it died, 3 if not."""
    status, line = lifecycle.status(pid_file)
    hint = _service("status", pid_file) if status else ""
    return _tell(status, f"{line}; {hint}" if hint else line)


def _service(verb: str, path: str) -> str:
    """Where systemd runs, its service may be what is meant, which has no PID file."""
    if path != pidfile.DEFAULT_PATH or not os.path.isdir(SYSTEMD):
        return ""
    return f"of the service under systemd use `systemctl {verb} forkserver`"


def _order(options: dict[str, Any]) -> lifecycle.Order:
    config, pid_path, log_path = (options.pop(name) for name in ("config", "pid_file", "log_file"))
    user, group, syslog = (options.pop(name) for name in ("user", "group", "syslog"))
    if syslog and log_path is not None:
        raise click.UsageError("--syslog and --log-file exclude each other; leave one out", click.get_current_context())
    given = {name: value for name, value in options.items() if value is not None and value != ()}
    order = lifecycle.Order(config, given, (pid_path, log_path), syslog=syslog)
    order.run_as(user, group)
    return order


def _tell_start(order: lifecycle.Order, status: int, line: str) -> int:
    """And what should be otherwise, where a daemon was started."""
    _tell(status, line)
    for warning in order.warnings() if line.startswith("started") else ():
        _warn(warning)
    return status


def _warn(warning: str) -> None:
    with contextlib.suppress(OSError):  # nobody left to tell
        click.echo(f"forkserver: warning: {warning}", err=True)


def _tell(status: int, line: str) -> int:
    """To standard error what went wrong, like all complaints."""
    failed = status not in {0, 1, 3}
    with contextlib.suppress(OSError) if failed else contextlib.nullcontext():  # nobody left to tell
        click.echo(f"forkserver: {line}", err=failed)
    return status
