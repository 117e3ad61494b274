"""Start, stop and query the classic daemon. Runs in the operator's command.

``daemonize`` is the program that becomes the daemon.
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

from forkserver.errors import EX_BUG, OperatorError
from forkserver.front import pidfile
from forkserver.front.daemonoptions import DaemonOptions
from forkserver.supervisor import operator

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "daemonize.py")
_STATUS_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 15.0
"""How long the server may take after the second SIGTERM: five seconds, and as many again where masters do not obey."""
# A service manager's variables are meant for its service, not for a daemon that leaves the service.
_MANAGER_VARIABLES = {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}


class StartOutcome(enum.Enum):
    """Outcome of a start."""

    STARTED = enum.auto()
    ALREADY_RUNNING = enum.auto()
    FAILED = enum.auto()


class StartResult(NamedTuple):
    """The result of a start.

    ``addresses`` are those of a daemon that was started. ``exit_status`` and ``complaint`` belong to a failure.
    """

    outcome: StartOutcome
    pid: int = 0
    addresses: str = ""
    exit_status: int = 0
    complaint: str = ""


class DaemonState(enum.IntEnum):
    """Whether a daemon runs. The values are the exit statuses that the LSB gives to ``status``."""

    RUNNING = 0
    DEAD = 1
    """A daemon died, and its PID file is still there."""
    NOT_RUNNING = 3


class DaemonStatus(NamedTuple):
    """The state of a daemon.

    ``pid`` is the PID of a daemon that runs or has died. ``report`` is the status line of a daemon that runs.
    """

    state: DaemonState
    pid: int = 0
    report: str = ""


def start(pid_path: str, options: DaemonOptions) -> StartResult:
    """Start the daemon; return when it serves or has failed. Ctrl-C ends a daemon that is just starting.

    Raises OperatorError if the PID file cannot be read.
    """
    pid = pidfile.holder(pid_path)
    if pid is not None:
        return StartResult(StartOutcome.ALREADY_RUNNING, pid)
    read_fd, write_fd = os.pipe()
    with open(read_fd, encoding="utf-8", errors="surrogateescape") as pipe:
        pid = 0
        try:
            # Ctrl-C must end a daemon that is starting, and for that its PID must be known.
            with _interrupts_held():
                try:
                    _launch(pid_path, options, write_fd)
                finally:
                    os.close(write_fd)
                word, _, rest = pipe.readline().rstrip("\n").partition(" ")
                if word == "up":
                    pid = int(rest)
            if pid:
                word, _, rest = pipe.readline().rstrip("\n").partition(" ")
        except KeyboardInterrupt:
            if pid and pidfile.holder(pid_path) == pid:
                stop(pid_path, 0)
            raise
    if word == "ready":
        return StartResult(StartOutcome.STARTED, pid, addresses=rest)
    if word == "running":
        return StartResult(StartOutcome.ALREADY_RUNNING, int(rest))
    pidfile.remove_stale(pid_path)  # a daemon that is no longer root can only empty the file
    if word == "failed":
        exit_status, _, complaint = rest.partition(" ")
        return StartResult(StartOutcome.FAILED, exit_status=int(exit_status), complaint=complaint)
    complaint = "the server ended before it was ready; see the end of its log"
    return StartResult(StartOutcome.FAILED, exit_status=EX_BUG, complaint=complaint)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Delay a Ctrl-C within the ``with`` block: it raises KeyboardInterrupt at the end."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and before != signal.SIG_IGN:
        raise KeyboardInterrupt


def _launch(pid_path: str, options: DaemonOptions, write_fd: int) -> None:
    """Run the program that becomes the daemon, until it has detached or failed."""
    # -P: root may start the daemon in another user's directory, and must not import modules from there.
    command = (sys.executable, "-P", _PROGRAM, str(write_fd), pid_path)
    environment = {name: value for name, value in os.environ.items() if name not in _MANAGER_VARIABLES}
    subprocess.run(  # noqa: S603 - our own program, with our own interpreter
        command,
        input=options.encode(),
        stdout=subprocess.DEVNULL,
        pass_fds=(write_fd,),
        env=environment,
        check=False,
    )


def stop(path: str, timeout_s: float | None) -> int | None:
    """End the server and wait for its end; return its PID, or None if no server ran. Raises OperatorError.

    The server may drain for ``timeout_s`` (None: for its own ``drain_s``). After that it is told to end at once.
    """
    pid = pidfile.holder(path)
    if pid is None:
        return None
    try:
        pid_fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return pid  # it ended just now
    try:
        # The PID may have been reused before it was opened. The descriptor stands for the server if the server still
        # holds the lock.
        if pidfile.holder(path) == pid:
            _end(pid, pid_fd, timeout_s)
    finally:
        os.close(pid_fd)
    pidfile.remove_stale(path)
    return pid


def _end(pid: int, pid_fd: int, timeout_s: float | None) -> None:
    for limit_s in (timeout_s, _STOP_TIMEOUT_S):
        try:
            signal.pidfd_send_signal(pid_fd, signal.SIGTERM)
        except ProcessLookupError:
            return
        except PermissionError:
            raise OperatorError(f"PID {pid} belongs to another user; stop it as that user, or as root") from None
        if select.select([pid_fd], [], [], limit_s)[0]:
            return
    raise OperatorError(f"PID {pid} does not end; see its log, and `kill -KILL {pid}` if nothing else helps")


def status(path: str) -> DaemonStatus:
    """Return the state of the daemon. Raises OperatorError."""
    pid = pidfile.holder(path)
    if pid is not None:
        return DaemonStatus(DaemonState.RUNNING, pid, _report_of(pid))
    pid = pidfile.written(path)
    return DaemonStatus(DaemonState.NOT_RUNNING) if pid is None else DaemonStatus(DaemonState.DEAD, pid)


def _report_of(pid: int) -> str:
    try:
        return operator.ask(pid, operator.STATUS, _STATUS_TIMEOUT_S)
    except OperatorError as error:
        return f"but it does not report its status: {error}"
