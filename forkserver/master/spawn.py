"""Fork children and wait for them; no other module of master or child forks, waits or calls ``os._exit``.

Runs in the master.

wait4(2) for any child makes the kernel look at all of them. With few children that costs nothing. With many, the reaper
waits by PID for the children that announce their end in the shared table, which the kernel finds at once, and looks at
all children only every half second: a child that was killed or stopped has announced nothing.
"""

from __future__ import annotations

import os

from forkserver.errors import ExitStatus
from forkserver.logline import Log
from forkserver.master.children import Children

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    Change: TypeAlias = tuple[int, int, resource.struct_rusage]

MAX_FEW = 64
LOOK_EVERY_S = 0.5


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


class Reaper:
    """Wait for ``children``. ``due_at`` is when to call ``changes`` even without a signal."""

    __slots__ = ("_children", "_looked_at", "due_at")

    def __init__(self, children: Children) -> None:
        self._children = children
        self._looked_at = 0.0
        self.due_at = float("inf")

    def changes(self, now: float) -> Iterator[Change]:
        """Yield PID, wait(2) status and resource usage of each child that has died, was stopped or continued.

        With many children, the changes that no child has announced follow at ``due_at``.
        """
        if len(self._children) > MAX_FEW:
            for pid in self._children.ending():
                if change := wait_for(pid):
                    yield change
            if now < self._looked_at + LOOK_EVERY_S:
                self.due_at = self._looked_at + LOOK_EVERY_S
                return
        self._looked_at, self.due_at = now, float("inf")
        # One SIGCHLD can stand for many changes.
        while change := wait_for(-1):
            yield change


def wait_for(pid: int) -> Change | None:
    """Return the change of the child ``pid``, None if there is none. -1 stands for any child.

    The kernel finds a PID at once (since Linux 5.13); for -1 it looks at every child, dead or alive. A child that was
    stopped and continued since the last call is reported only as continued.
    """
    try:
        change = os.wait4(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    except ChildProcessError:
        return None
    return change if change[0] else None
