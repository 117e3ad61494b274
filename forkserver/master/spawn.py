"""Birth and death: the only module that forks, waits, and leaves by ``os._exit``. Runs in the master."""

from __future__ import annotations

import os

from forkserver.errors import ExitStatus
from forkserver.logline import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator


def spawn(work: Callable[[], ExitStatus], log: Log) -> int:
    """Fork a child that does ``work`` and exits with the status it returns; returns its PID. Raises OSError (fork(2)).

    An exception of the child's is logged as ``bug`` there, and never reaches the master's loop.
    """
    pid = os.fork()
    if pid:
        return pid
    # From here on only os._exit leads out: a child that returned would run the master's loop a second time.
    status = ExitStatus.BUG
    try:
        status = work()
    except BaseException as error:  # noqa: BLE001 - the last frame of the process: log it, whatever it is
        log.bug(error)
    finally:
        os._exit(status)


class Death:
    """One reaped child: its wait(2) status and its resource usage."""

    __slots__ = ("pid", "usage", "wait_status")

    def __init__(self, pid: int, wait_status: int, usage: resource.struct_rusage) -> None:
        self.pid = pid
        self.wait_status = wait_status
        self.usage = usage


def reap() -> Iterator[Death]:
    """Yield every child that has ended. SIGCHLD coalesces: one signal may stand for many deaths.

    The kernel looks at every child, dead or alive, for each one that it gives, and for finding none.
    """
    while death := reap_one(-1):
        yield death


def reap_one(pid: int) -> Death | None:
    """The child ``pid``, if it has ended; -1: any. The kernel finds a PID at once (since Linux 5.13)."""
    try:
        pid, wait_status, usage = os.wait4(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return Death(pid, wait_status, usage) if pid else None
