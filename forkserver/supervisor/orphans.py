"""Children of masters that died finish their transfers; their subreaper buries them. Runs in the supervisor."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    from collections.abc import Iterable


def reap(masters: set[int]) -> list[tuple[int, int, resource.struct_rusage]]:
    """Reap every dead child that is none of ``masters``; returns PID, wait status and resource usage of each.

    Looks before it takes (WNOWAIT): a master's status belongs to the ``subprocess`` object that started it.
    """
    reaped: list[tuple[int, int, resource.struct_rusage]] = []
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return reaped
        if seen is None or seen.si_pid in masters:
            return reaped
        reaped.append(os.wait4(seen.si_pid, 0))


def children_among(pids: Iterable[int], session: int) -> set[int]:
    """Return those of ``pids`` that are children of this process and in ``session``, dead ones not reaped included.

    The kernel is asked about each, without /proc: systemd's ``ProtectProc=`` hides processes that cannot be inspected,
    as masters and their children.
    """
    found = set()
    for pid in pids:
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if os.getsid(pid) == session:
                found.add(pid)
        except (ChildProcessError, ProcessLookupError):
            pass
    return found


def living(sessions: set[int], masters: set[int]) -> list[int]:
    """PIDs of orphans that live: children of this process, in a session that a master began, and no master themselves.

    From proc_pid_stat(5). A process may have been given other children before it ran our program; those it lets live.
    """
    children = []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                # The command name, in parentheses, may hold anything; state, parent, group and session follow.
                _, parent, _, session, *_ = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # ended since the directory was read
        if int(parent) == os.getpid() and int(session) in sessions and int(entry) not in masters:
            children.append(int(entry))
    return children


def send_signal(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal children of this process. Only ``reap`` ends the life of such a PID: none can be a stranger's."""
    for pid in pids:
        os.kill(pid, number)
