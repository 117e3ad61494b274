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


class Pause:
    """One live child that was stopped (SIGSTOP) or, not ``stopped``, continued (SIGCONT)."""

    __slots__ = ("pid", "stopped")

    def __init__(self, pid: int, *, stopped: bool) -> None:
        self.pid = pid
        self.stopped = stopped


def reap() -> Iterator[Death | Pause]:
    """Yield every child that has ended, was stopped or continued. SIGCHLD coalesces: one may stand for many changes.

    The kernel looks at every child, dead or alive, for each one that it gives, and for finding none.
    """
    while change := reap_one(-1):
        yield change


def reap_one(pid: int) -> Death | Pause | None:
    """Return what became of the child ``pid``, if anything did; -1: any. The kernel finds a PID at once (Linux 5.13).

    A child that was stopped and continued since the last call is only told as continued.
    """
    try:
        pid, wait_status, usage = os.wait4(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    except ChildProcessError:
        return None
    if not pid:
        return None
    if os.WIFSTOPPED(wait_status) or os.WIFCONTINUED(wait_status):
        return Pause(pid, stopped=os.WIFSTOPPED(wait_status))
    return Death(pid, wait_status, usage)
