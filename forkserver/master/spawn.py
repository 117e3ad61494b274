"""Fork children and wait for them; no other module forks, waits or calls ``os._exit``. Runs in the master."""

from __future__ import annotations

import os

from forkserver.errors import ExitStatus
from forkserver.logline import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator


def spawn(work: Callable[[], ExitStatus], log: Log) -> int:
    """Fork a child that runs ``work`` and exits with the status ``work`` returns. Return its PID.

    The child logs an exception as ``bug``; no exception reaches the master's loop. Raises OSError where fork(2) fails.
    """
    pid = os.fork()
    if pid:
        return pid
    # The child must leave by os._exit. If it returned, it would run the master's loop a second time.
    status = ExitStatus.BUG
    try:
        status = work()
    except BaseException as error:  # noqa: BLE001 - the last frame of the process: log it, whatever it is
        log.bug(error)
    finally:
        os._exit(status)


class Death:
    """A reaped child, with its wait(2) status and its resource usage."""

    __slots__ = ("pid", "usage", "wait_status")

    def __init__(self, pid: int, wait_status: int, usage: resource.struct_rusage) -> None:
        self.pid = pid
        self.wait_status = wait_status
        self.usage = usage


class StopChange:
    """A live child that was ``stopped`` (SIGSTOP) or, if not ``stopped``, continued (SIGCONT)."""

    __slots__ = ("pid", "stopped")

    def __init__(self, pid: int, *, stopped: bool) -> None:
        self.pid = pid
        self.stopped = stopped


def reap() -> Iterator[Death | StopChange]:
    """Yield every child that has died, was stopped or continued. One SIGCHLD can stand for many changes.

    For each result, and for the last empty one, the kernel looks at every child, dead or alive.
    """
    while change := reap_one(-1):
        yield change


def reap_one(pid: int) -> Death | StopChange | None:
    """Return the change of the child ``pid``, None if there is none. -1 stands for any child.

    The kernel finds a PID at once (since Linux 5.13). A child that was stopped and continued since the last call is
    reported only as continued.
    """
    try:
        pid, wait_status, usage = os.wait4(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    except ChildProcessError:
        return None
    if not pid:
        return None
    if os.WIFSTOPPED(wait_status) or os.WIFCONTINUED(wait_status):
        return StopChange(pid, stopped=os.WIFSTOPPED(wait_status))
    return Death(pid, wait_status, usage)
