"""Start and stop of the classic daemon, as the operator's command does it. Runs in the front.

The daemon itself is ``daemonize``; this is who waits for it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from forkserver.errors import EX_BUG, OperatorError
from forkserver.front import configfile, logfile, owner, pidfile, preflight
from forkserver.supervisor import logsocket, operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.settings import Settings

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "daemonize.py")
_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): PID, UID, GID
_MAX_MESSAGE_BYTES = 65536
_STATUS_TIMEOUT_S = 5.0
_LAST_S = 15.0
"""Seconds the server has after the second SIGTERM: it takes five, and as many again where masters do not obey."""
# What a service manager says to its service is not meant for a daemon that leaves it.
_MANAGERS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


class Order:
    """What to start, checked. ``stop`` and ``start`` of a ``restart`` have it in common."""

    def __init__(
        self, config: str | None, options: dict[str, Any], paths: tuple[str, str | None], *, syslog: bool = False
    ) -> None:
        """Raises OperatorError for settings that are wrong, and where there is no logger to log to.

        ``paths``: PID file, log file.

        Moves this process to ``/``, where the daemon will read the settings again.
        """
        self.settings: Settings = configfile.load(config, options)
        logfile.check_form(self.settings, syslog=syslog)
        pid_path, log_path = paths
        self.pid_path = os.path.abspath(pid_path)
        self.log_path = None if log_path is None else os.path.abspath(log_path)
        self.syslog = syslog
        if syslog:
            os.close(logsocket.connect())
        self.config = None if config is None else os.path.abspath(config)
        self.options = dict(options)
        if "root" in options:
            self.options["root"] = self.settings.root
        os.chdir("/")
        if not self._means_the_same():  # the root is the working directory, by default
            self.options["root"] = self.settings.root
        self.user: str | None = None
        self.group: str | None = None
        self.owner: owner.Owner | None = None

    def run_as(self, user: str | None, group: str | None) -> None:
        """Name the user. Raises OperatorError if there is none, or it cannot run or serve what it must."""
        self.owner = owner.find(user, group)
        if self.owner:
            preflight.check_user(self.owner, self.settings.root)
        self.user, self.group = user, group

    def warnings(self) -> list[str]:
        """What would work, and should be otherwise, a line each."""
        told = []
        if os.geteuid() == 0 and (self.owner is None or self.owner.uid == 0):
            told.append("it runs as root; give it a user of its own with --user")
        if self.config is not None and self.owner:
            with self.owner.acting():
                readable = os.access(self.config, os.R_OK, effective_ids=True)
            if not readable:
                config = configfile.escape(self.config)
                told.append(f"it cannot be reloaded: {config}: its user cannot read it; give it the right to")
        return told

    def check_beside(self, running: int) -> None:
        """Raises OperatorError for all that shows, while the daemon ``running`` runs, to be in the way of another."""
        pidfile.check(self.pid_path)
        preflight.check_addresses(self.settings, running)
        if self.log_path is not None:
            os.close(logfile.open_to_append(self.log_path, self.owner))

    def encode(self) -> bytes:
        """As ``daemonize.main`` reads it."""
        names = ("config", "options", "log_file", "syslog", "user", "group")
        values = (self.config, self.options, self.log_path, self.syslog, self.user, self.group)
        return json.dumps(dict(zip(names, values, strict=True))).encode("ascii")

    def _means_the_same(self) -> bool:
        try:
            return configfile.load(self.config, self.options).root == self.settings.root
        except OperatorError:
            return False


class _Word:
    """What the daemon said: ``up``, ``running``, ``failed`` or nothing, and the rest of the line."""

    def __init__(self, line: str) -> None:
        self.verb, _, self.rest = line.rstrip("\n").partition(" ")


class _Manager:
    """The part of a service manager that hears the supervisor say that it is ready, sd_notify(3)."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("")  # the kernel chooses an abstract name, unix(7)
        self.name = "@" + self.socket.getsockname()[1:].decode("ascii")
        self.status = ""

    def hears_ready(self, pid: int) -> bool:
        """Take one message; whether it makes the service of ``pid`` ready."""
        message, ancillary, _, _ = self.socket.recvmsg(_MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size))
        # Anyone may send to an abstract name; the kernel tells who did.
        if [_CREDENTIALS.unpack(data)[0] for _, _, data in ancillary] != [pid]:
            return False
        lines = message.decode("utf-8", "replace").split("\n")
        self.status = next((line[len("STATUS=") :] for line in lines if line.startswith("STATUS=")), self.status)
        return "READY=1" in lines


def start(order: Order) -> tuple[int, str]:
    """Start the daemon; returns when it serves, or does not, with the exit status and a line for people.

    A Ctrl-C meanwhile ends the daemon, too. Raises OperatorError.
    """
    pid = pidfile.holder(order.pid_path)
    if pid is not None:
        return 0, f"already running as PID {pid}"
    manager = _Manager()
    read_fd, write_fd = os.pipe()
    with manager.socket, open(read_fd, encoding="utf-8", errors="surrogateescape") as told:
        word = _Word("")
        try:
            with _interrupts_held():  # until it is known what there would be to end
                try:
                    _launch(order, write_fd, manager.name)
                finally:
                    os.close(write_fd)
                word = _Word(told.readline())
            if word.verb == "up" and _becomes_ready(int(word.rest), manager, told.fileno()):
                # Without version, generation and counts, which say nothing yet.
                return 0, f"started, PID {word.rest}, {configfile.escape(manager.status.rsplit(', ', 4)[0])}"
        except KeyboardInterrupt:
            if word.verb == "up" and pidfile.holder(order.pid_path) == int(word.rest):
                stop(order.pid_path, 0)
            raise
        if word.verb == "up":
            word = _Word(told.readline())
    return _failed(word, order.pid_path)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A Ctrl-C within raises KeyboardInterrupt at the end."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and before != signal.SIG_IGN:
        raise KeyboardInterrupt


def _becomes_ready(pid: int, manager: _Manager, told_fd: int) -> bool:
    """Wait until the daemon is ready: True; or has failed, or ended: False."""
    while True:
        ready, _, _ = select.select([told_fd, manager.socket.fileno()], [], [])
        if manager.socket.fileno() not in ready:
            return False
        if manager.hears_ready(pid):
            return True


def _failed(word: _Word, path: str) -> tuple[int, str]:
    if word.verb == "running":
        return 0, f"already running as PID {word.rest}"
    pidfile.remove_stale(path)  # what a daemon that is no longer root could only empty
    if word.verb == "failed":
        status, _, complaint = word.rest.partition(" ")
        return int(status), complaint
    return EX_BUG, "the server ended before it was ready; what it said last is in its log"


def _launch(order: Order, write_fd: int, notify: str) -> None:
    """Run what becomes the daemon, until it has detached or failed."""
    # -P: whoever starts it as root in a directory of somebody else must not import what lies there.
    command = (sys.executable, "-P", _PROGRAM, str(write_fd), order.pid_path)
    environment = {name: value for name, value in os.environ.items() if name not in _MANAGERS} | {
        "NOTIFY_SOCKET": notify
    }
    subprocess.run(  # noqa: S603 - our own program, with our own interpreter
        command,
        input=order.encode(),
        stdout=subprocess.DEVNULL,
        pass_fds=(write_fd,),
        env=environment,
        check=False,
    )


def stop(path: str, timeout_s: float | None) -> int | None:
    """End the server and wait until it has; returns its PID, None if none ran. Raises OperatorError.

    It has as long as its ``drain_s`` gives it, or ``timeout_s``; then it is told to end at once.
    """
    pid = pidfile.holder(path)
    if pid is None:
        return None
    with contextlib.ExitStack() as stack:
        try:
            pid_fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return pid  # it ended just now
        stack.callback(os.close, pid_fd)
        # The descriptor stands for one process, whoever gets its number later; and that one still holds the lock.
        if pidfile.holder(path) == pid:
            _end(pid, pid_fd, timeout_s)
    pidfile.remove_stale(path)
    return pid


def _end(pid: int, pid_fd: int, timeout_s: float | None) -> None:
    for limit_s in (timeout_s, _LAST_S):
        try:
            signal.pidfd_send_signal(pid_fd, signal.SIGTERM)
        except ProcessLookupError:
            return
        except PermissionError:
            raise OperatorError(f"PID {pid} belongs to another user; stop it as that user, or as root") from None
        if select.select([pid_fd], [], [], limit_s)[0]:
            return
    raise OperatorError(f"PID {pid} does not end; see its log, and `kill -KILL {pid}` if nothing else helps")


def status(path: str) -> tuple[int, str]:
    """Exit status, as the LSB gives them, and a line for people. Raises OperatorError."""
    pid = pidfile.holder(path)
    if pid is not None:
        return 0, f"running, PID {pid}, {configfile.escape(_status_of(pid))}"
    pid = pidfile.written(path)
    if pid is not None:
        return 1, f"dead: it was PID {pid}, and its PID file {configfile.escape(path)} is still there"
    return 3, "not running"


def _status_of(pid: int) -> str:
    """Return what the supervisor ``pid`` says of itself, or why the supervisor cannot be asked."""
    try:
        return operator.ask(pid, operator.STATUS, _STATUS_TIMEOUT_S)
    except OperatorError as error:
        return f"but it tells no more: {error}"
