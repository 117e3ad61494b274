"""Children of masters that died finish their transfers; their subreaper buries them. Runs in the supervisor."""

from __future__ import annotations

import os
import signal


def reap(masters: set[int]) -> list[tuple[int, int]]:
    """Bury every dead child that is none of ``masters``; returns (PID, wait status) of each.

    Looks before it takes (WNOWAIT): a master's status belongs to the ``subprocess`` object that started it.
    """
    buried: list[tuple[int, int]] = []
    while True:
        try:
            seen = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return buried
        if seen is None or seen.si_pid in masters:
            return buried
        buried.append(os.waitpid(seen.si_pid, 0))


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


def send_signal(pids: list[int], number: signal.Signals) -> None:
    """Signal children of this process. Only ``reap`` ends the life of such a PID: none can be a stranger's."""
    for pid in pids:
        os.kill(pid, number)
