"""What the kernel tells of processes: whose children they are, what they cost. proc(5)."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Have whatever our processes leave behind become our children, so that it can be found and ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _fields(pid: int) -> list[bytes] | None:
    """Those of proc_pid_stat(5) that follow the name, the state first."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None


def family(pid: int) -> list[int]:
    """The process, its children, theirs, and so on; from one look at all processes."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdecimal() and (fields := _fields(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def children(pid: int) -> list[int]:
    """The process's own children; of a process with one thread. A look at all of /proc would cost others their time."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_s(pid: int) -> float:
    """Processor seconds of the process itself, without its children."""
    fields = _fields(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S if fields else 0.0


def usage(pid: int) -> dict[str, float]:
    """Of the process, its living children, and those that it has waited for: microseconds and minor faults."""
    own, dead = _usage(_fields(pid) or [], 7, 11), _usage(_fields(pid) or [], 8, 13)
    for child in children(pid):
        for each, value in enumerate(_usage(_fields(child) or [], 7, 11)):
            dead[each] += value
    return {"parent_us": own[0], "parent_faults": own[1], "child_us": dead[0], "child_faults": dead[1]}


def _usage(fields: list[bytes], faults: int, ticks: int) -> list[float]:
    if not fields:
        return [0.0, 0.0]
    return [(int(fields[ticks]) + int(fields[ticks + 1])) / _TICKS_PER_S * 1e6, float(fields[faults])]


def pss_kib(pids: list[int]) -> int:
    """Proportional set size of all together: a page shared by n counts as the n-th part of one."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue  # gone meanwhile
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def pin(pids: list[int], cpus: set[int]) -> None:
    """Have the processes run on those processors only."""
    for pid in pids:
        try:
            os.sched_setaffinity(pid, cpus)
        except OSError:
            pass  # gone meanwhile


def end(pids: list[int]) -> None:
    """SIGKILL each that still lives, and wait for those that are ours."""
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and any(_fields(pid) for pid in pids):
        reap()
        time.sleep(0.01)


def reap() -> None:
    """Bury the adopted that are dead: vsftpd leaves one for each connection."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
