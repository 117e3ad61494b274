"""What one connection costs, and whom: processor time, page faults and where they are, system calls.

Processor time and faults are the kernel's own counts for processes, ended children included: proc_pid_stat(5); of a
server that has its children reaped by the kernel there is no such count. Calls are strace's count, places of faults
perf's, each over connections of its own, for both slow down what they watch.
"""

from __future__ import annotations

import collections
import contextlib
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import files, procfs
from tests.bench.load import Load
from tests.bench.say import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.bench import Bench
    from tests.bench.peers import Running

ACCOUNT = "account"
KINDS = ("program and libraries", "their data, written", "heap", "other")
_SERVERS = "plain spares pooled c-fork c-pool forking"
_CLIENTS = 4
_ATTACH_S = 0.5
_MAX_CALLS = 10


def account(bench: Bench) -> None:
    """For servers that give every connection a process, and for the bounds."""
    names = bench.plan.peers(_SERVERS.split())
    for round_, order in bench.turns(names):
        say(f"{ACCOUNT}, round {round_ + 1} of {bench.plan.rounds}")
        for name in order:
            with bench.running([name]) as servers:
                _ask(bench, servers[name])  # what only the first connections cost
                values = _costs(bench, servers[name])
                values |= _calls(bench, servers[name]) | _faults(bench, servers[name])
            bench.results.add(ACCOUNT, name, _CLIENTS, round_, values)


def _ask(bench: Bench, server: Running) -> float:
    """Returns how many connections were served."""
    load = Load(_CLIENTS, 30.0, 0.0, bench.plan.grace_s, requests=bench.plan.account)
    done = bench.generator.run(server, server.peer.script(files.SMALL, files.SIZES[files.SMALL]), load)["completed"]
    time.sleep(bench.plan.settle_s)  # the last children end
    return done


def _forking(server: Running) -> int:
    """The process that forks: our master, or the server itself."""
    pid = server.process.pid
    return procfs.children(pid)[0] if server.peer.ours else pid


def _costs(bench: Bench, server: Running) -> dict[str, float]:
    parent = _forking(server)
    before = procfs.usage(parent)
    done = _ask(bench, server)
    after = procfs.usage(parent)
    return {name: (after[name] - before[name]) / done for name in after}


def _calls(bench: Bench, server: Running) -> dict[str, float]:
    output = bench.room.work / "strace"
    pids = [part for pid in procfs.family(_forking(server)) for part in ("-p", str(pid))]
    command = ["strace", "-f", "-c", "-U", "calls,name", "-o", str(output), *pids]
    with _watching(command):
        done = _ask(bench, server)
    rows = [line.split() for line in output.read_text().splitlines()]
    calls = {row[1]: int(row[0]) / done for row in rows if len(row) == 2 and row[0].isdecimal()}
    calls.pop("total", None)
    most = sorted(calls, key=lambda name: -calls[name])[:_MAX_CALLS]
    return {"calls": sum(calls.values()), **{f"call {name}": calls[name] for name in most}}


def _faults(bench: Bench, server: Running) -> dict[str, float]:
    """Of the children alone, by what the address is of."""
    output, parent = bench.room.work / "perf.data", _forking(server)
    pids = ",".join(map(str, procfs.family(parent)))
    record = ["perf", "record", "-q", "-e", "page-faults", "-c", "1", "-d", "-o", str(output), "-p", pids]
    with _watching(record):
        done = _ask(bench, server)
        maps = [line.split() for line in Path(f"/proc/{parent}/maps").read_text().splitlines()]
    script = ["perf", "script", "-i", str(output), "-F", "pid,addr"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    addresses = [int(line.split()[1], 16) for line in lines if int(line.split()[0]) != parent]
    counts = collections.Counter(_kind(address, maps) for address in addresses)
    return {f"fault {kind}": counts[kind] / done for kind in KINDS}


def _kind(address: int, maps: list[list[str]]) -> str:
    for where, access, _offset, device, *_rest in maps:
        start, end = (int(word, 16) for word in where.split("-"))
        if start <= address < end:
            if device == "00:00":
                return "heap"
            return "their data, written" if "w" in access else "program and libraries"
    return "other"


@contextlib.contextmanager
def _watching(command: list[str]) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(_ATTACH_S)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
