"""The classic daemon, for hosts without systemd: detach, take the PID file, bind, drop to a user, serve.

Runs in the process that becomes the supervisor. ``forkserver start`` starts it as a program, because python-daemon
ends the process that it detaches from, and somebody must stay to tell the operator what became of it. FD is a pipe to
that somebody: ``up PID``, ``running PID`` or ``failed STATUS COMPLAINT``; end-of-file means that we are gone. That the
server is ready, the supervisor tells the same one as it would tell a service manager, by NOTIFY_SOCKET.

Of what python-daemon does on its own: core dumps are off for all processes of the server, descriptors not named are
closed. Not left to it: whether to detach (it would not under PID 1, as in a container), SIGTERM (its handler would
raise in the middle of whatever goes on), the umask (0), and the user (see ``owner``).
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - looked for when a name is first resolved, be it as a user that may not read it
import fcntl
import functools
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

if not __package__:
    # Started by path: nothing else would tell Python where the package is.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import daemon  # type: ignore[import-untyped] # it has no annotations

from forkserver import logline
from forkserver.errors import EX_BUG, EX_CONFIG, OperatorError
from forkserver.front import configfile, logfile, owner, pidfile
from forkserver.kernel import oomscore
from forkserver.supervisor import address, listener, logsocket, supervise

if TYPE_CHECKING:
    from forkserver.settings import Settings
    from forkserver.supervisor.listener import Listeners

_CRITICAL, _ERROR = 2, 3
"""Priorities of syslog(3)."""
_FIRST_PASSED_FD = 3
_FD_FLOOR = 128
"""What is kept open lies above what is passed on as LISTEN_FDS, from 3 on: at most control.MAX_LISTENERS."""


class Teller:
    """Tells whoever waits for the start; once that one has gone, nobody."""

    def __init__(self, fd: int) -> None:
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FD_FLOOR)
        os.close(fd)
        self.detached = False

    def tell(self, *words: str) -> None:
        """One line."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.fd, " ".join(words).encode("utf-8", "surrogateescape") + b"\n")


def main(tell_fd: int, pid_path: str) -> int:
    """Do what the order on standard input says; returns the exit status."""
    teller = Teller(tell_fd)
    try:
        return _run(json.load(sys.stdin), pid_path, teller)
    except pidfile.RunningError as error:
        teller.tell("running", str(error.pid))
        return 0
    except OperatorError as error:
        return _fail(teller, EX_CONFIG, str(error))
    except Exception as error:  # noqa: BLE001 - our own bug, at the outermost place: one line instead of a traceback
        last = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {configfile.escape(str(error))}"
        return _fail(teller, EX_BUG, f"bug: {what}, at {last.filename}:{last.lineno}; please report it")


def _run(order: dict[str, Any], pid_path: str, teller: Teller) -> int:
    settings = _load(order)
    user = owner.find(order["user"], order["group"])
    _daemonize(order, user, teller)
    with contextlib.suppress(OSError):  # not root, or no /proc: then size decides, and masters score a little higher
        oomscore.lower_to_supervisor()
    pid_fd = pidfile.hold(pid_path, _FD_FLOOR)
    try:
        if user:
            if _needs_root(settings):
                _pass_on(listener.bind(settings))
            user.become()
        teller.tell("up", str(os.getpid()))
        log_path = order["log_file"]
        reopen_log = None if log_path is None else functools.partial(logfile.reopen, log_path)
        return supervise.main(settings, functools.partial(_load, order), reopen_log)
    finally:
        pidfile.release(pid_path, pid_fd)


def _load(order: dict[str, Any]) -> Settings:
    settings = configfile.load(order["config"], order["options"])
    logfile.check_form(settings, syslog=order["syslog"])
    return settings


def _needs_root(settings: Settings) -> bool:
    """Whether a port is so low that only root may bind it, ip(7)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            first_free = int(file.read())
    except (OSError, ValueError):
        first_free = 1024
    return any(0 < address.parse(text, settings.port)[1] < first_free for text in settings.bind)


def _daemonize(order: dict[str, Any], user: owner.Owner | None, teller: Teller) -> None:
    if order["syslog"]:
        log_fd = logsocket.connect()
    elif order["log_file"] is not None:
        log_fd = logfile.open_to_append(order["log_file"], user)
    else:
        log_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with open(log_fd, "wb", buffering=0) as log:
        daemon.DaemonContext(
            working_directory="/",
            umask=0o022,
            detach_process=True,
            files_preserve=[teller.fd],
            stderr=log,
            signal_map={},
        ).open()
    teller.detached = True


def _pass_on(listeners: Listeners) -> None:
    """Leave the sockets where sd_listen_fds(3) says: the supervisor takes them as it takes a service manager's.

    It keeps them as long as it lives, whatever a reload says of addresses: as its user it could not bind them again.
    """
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FD_FLOOR) for each in listeners.values()]
    for each in listeners.values():
        each.close()
    for number, fd in enumerate(high):
        os.dup2(fd, _FIRST_PASSED_FD + number, inheritable=False)
        os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(high))


def _fail(teller: Teller, status: int, complaint: str) -> int:
    teller.tell("failed", str(status), complaint)
    if teller.detached:  # standard error is the log, for those who come later
        with contextlib.suppress(OSError):
            os.write(2, _as_logged(status, complaint))
    return status


def _as_logged(status: int, complaint: str) -> bytes:
    if logline.is_datagram_socket(2):
        return logline.syslog_complaint(complaint, _CRITICAL if status == EX_BUG else _ERROR)
    return f"forkserver: {complaint}\n".encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
