"""Become the classic daemon, for hosts without systemd: detach, lock the PID file, bind, drop to a user, serve.

Runs in the process that becomes the supervisor. ``forkserver start`` runs this file as a program, because python-daemon
ends the process that it detaches from, and the command must stay to report the result.

The daemon writes lines to a pipe, which the command reads: ``up PID``, then ``ready ADDRESSES`` once it serves; or
``running PID`` if another daemon holds the PID file; or ``failed STATUS COMPLAINT``. End-of-file without such a line
means that the daemon died.

python-daemon also switches core dumps off, for all processes of the server, and closes all other descriptors. Four
things are not left to python-daemon: whether to detach (it does not under PID 1, as in a container), SIGTERM (its
handler raises an exception wherever the program is), the umask (it would be 0) and the user (see ``daemonuser``).
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401 - loaded now: a host name may be resolved as a user that cannot read the file
import fcntl
import functools
import os
import sys
import syslog

if not __package__:
    # Run by its path, so nothing else tells Python where the package is.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import daemon  # type: ignore[import-untyped] # it has no annotations

from forkserver import logline
from forkserver.errors import EX_BUG, EX_CONFIG, OperatorError
from forkserver.front import daemonuser, logfile, pidfile, terminal
from forkserver.front.daemonoptions import DaemonOptions
from forkserver.front.daemonuser import DaemonUser
from forkserver.kernel import oomscore
from forkserver.settings import Settings
from forkserver.supervisor import address, listener, logsocket, supervise
from forkserver.supervisor.listener import Listeners

_FIRST_PASSED_FD = 3
_FD_FLOOR = 128
"""The lowest number of a descriptor that stays open. Below are the sockets that are passed on as LISTEN_FDS: at most
control.MAX_LISTENERS, from 3 on."""


class StartPipe:
    """The pipe to the ``forkserver start`` that waits for this daemon."""

    def __init__(self, fd: int) -> None:
        self.fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FD_FLOOR)
        os.close(fd)
        self.detached = False

    def send(self, *words: str) -> None:
        """Send one line; do nothing if the command has ended."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.fd, " ".join(words).encode("utf-8", "surrogateescape") + b"\n")


def main(start_fd: int, pid_path: str) -> int:
    """Run a daemon with the options on standard input; return its exit status.

    ``start_fd`` is the descriptor of the pipe to the command, ``pid_path`` the path of the PID file.
    """
    pipe = StartPipe(start_fd)
    try:
        return _run(DaemonOptions.decode(sys.stdin.buffer.read()), pid_path, pipe)
    except pidfile.RunningError as error:
        pipe.send("running", str(error.pid))
        return 0
    except OperatorError as error:
        return _fail(pipe, EX_CONFIG, str(error))
    except Exception as error:  # noqa: BLE001 - our own bug, at the outermost place: one line instead of a traceback
        return _fail(pipe, EX_BUG, terminal.describe_bug(error))


def _run(options: DaemonOptions, pid_path: str, pipe: StartPipe) -> int:
    settings = options.load()
    user = daemonuser.find(options.user, options.group)
    _daemonize(options, user, pipe)
    with contextlib.suppress(OSError):  # not root, or no /proc: masters still score a little higher, by their size
        oomscore.lower_to_supervisor()
    pid_fd = pidfile.hold(pid_path, _FD_FLOOR)
    try:
        if user:
            if _needs_root(settings):
                _pass_on(listener.bind(settings))
            user.become()
        pipe.send("up", str(os.getpid()))
        reopen_log = None if options.log_path is None else functools.partial(logfile.reopen, options.log_path)
        report_ready = functools.partial(pipe.send, "ready")
        return supervise.main(settings, options.load, reopen_log=reopen_log, report_ready=report_ready)
    finally:
        pidfile.release(pid_path, pid_fd)


def _needs_root(settings: Settings) -> bool:
    """Whether a port is so low that only root may bind it, ip(7)."""
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            first_free = int(file.read())
    except (OSError, ValueError):
        first_free = 1024
    return any(0 < address.parse(text, settings.port)[1] < first_free for text in settings.bind)


def _daemonize(options: DaemonOptions, user: DaemonUser | None, pipe: StartPipe) -> None:
    """Detach from the terminal; standard error becomes the log."""
    if options.syslog:
        log_fd = logsocket.connect()
    elif options.log_path is not None:
        log_fd = logfile.open_to_append(options.log_path, user)
    else:
        log_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    with open(log_fd, "wb", buffering=0) as log:
        daemon.DaemonContext(
            working_directory="/",
            umask=0o022,
            detach_process=True,
            files_preserve=[pipe.fd],
            stderr=log,
            signal_map={},
        ).open()
    pipe.detached = True


def _pass_on(listeners: Listeners) -> None:
    """Leave the sockets where sd_listen_fds(3) says, so that the supervisor takes them like a service manager's.

    The supervisor then keeps the sockets through every reload: as its user it could not bind them again.
    """
    high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, _FD_FLOOR) for each in listeners.values()]
    for each in listeners.values():
        each.close()
    for number, fd in enumerate(high):
        os.dup2(fd, _FIRST_PASSED_FD + number, inheritable=False)
        os.close(fd)
    os.environ["LISTEN_PID"] = str(os.getpid())
    os.environ["LISTEN_FDS"] = str(len(high))


def _fail(pipe: StartPipe, status: int, complaint: str) -> int:
    """Send the complaint to the command, and write it to the log if standard error is the log; return ``status``."""
    pipe.send("failed", str(status), complaint)
    if pipe.detached:
        with contextlib.suppress(OSError):
            os.write(2, _as_logged(status, complaint))
    return status


def _as_logged(status: int, complaint: str) -> bytes:
    if logline.is_datagram_socket(2):
        return logline.syslog_complaint(complaint, syslog.LOG_CRIT if status == EX_BUG else syslog.LOG_ERR)
    return f"forkserver: {complaint}\n".encode("utf-8", "surrogateescape")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
