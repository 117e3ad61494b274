"""Find, reap and signal orphans, the children of dead masters: their subreaper is the supervisor.

Runs in the supervisor.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterable, Iterator


def reap(masters: set[int]) -> list[tuple[int, int, resource.struct_rusage]]:
    """Reap dead children that are not among ``masters``; return PID, wait status and resource usage of each.

    A dead master must stay: its status belongs to the ``subprocess`` object that started it. So the loop looks with
    WNOWAIT first, and ends at a dead master. The next ``Generations.reap`` takes this master and the rest.
    """
    reaped = []
    with contextlib.suppress(ChildProcessError):  # there are no children
        while seen := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if seen.si_pid in masters:
                break
            reaped.append(os.wait4(seen.si_pid, 0))
    return reaped


def stopped() -> Iterator[int]:
    """Yield the PID of each child of this process that was stopped (SIGSTOP) since the last call, masters included."""
    with contextlib.suppress(ChildProcessError):  # there are no children
        while seen := os.waitid(os.P_ALL, 0, os.WSTOPPED | os.WNOHANG):
            yield seen.si_pid


def children_among(pids: Iterable[int], session: int) -> set[int]:
    """Return those of ``pids`` that are children of this process and in ``session``, zombies included.

    The kernel is asked about each PID, without /proc: systemd's ``ProtectProc=`` hides processes that cannot be
    inspected, as masters and their children cannot.
    """
    found = set()
    for pid in pids:
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if os.getsid(pid) == session:
                found.add(pid)
    return found


def living(sessions: set[int], masters: set[int]) -> list[int]:
    """Return the PIDs of orphans: children of this process in one of the masters' ``sessions``, except ``masters``.

    Zombies are included. Read from proc_pid_stat(5), so children that ``ProtectProc=`` hides are missing. Other
    children, from before this process ran our program, are not ours.
    """
    children = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The command name, in parentheses, may hold any byte; state, parent, group and session follow it.
                _, parent, _, session, *_ = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # ended since the directory was read
        if int(parent) == os.getpid() and int(session) in sessions and int(entry) not in masters:
            children.append(int(entry))
    return children


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal children of this process. Their PIDs cannot have been reused, because only ``reap`` releases them."""
    for pid in pids:
        os.kill(pid, number)
