"""One large file to a reader that throws it away: how fast can a server send? Each has a processor of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.bench import files, procfs
from tests.bench.load import Load
from tests.bench.plan import BY_NAME
from tests.bench.say import say

if TYPE_CHECKING:
    from tests.bench.bench import Bench
    from tests.bench.peers import Running

DISCARD = "large file, discarded"
_SERVERS = ["plain", "pooled", "c-fork", "nginx", "apache", "lighttpd", "busybox", "forking"]
_PATIENCE_S = 120.0


def discard(bench: Bench) -> None:
    """Whole transfers, connection included; GB/s."""
    size = bench.plan.big_bytes
    files.write(bench.room.root / files.BIG, size)
    names = bench.plan.peers(_SERVERS)
    with bench.running(names) as servers:
        prefix = _place(list(servers.values()))
        for round_, order in bench.turns(names):
            say(f"{DISCARD}, round {round_ + 1} of {bench.plan.rounds}")
            for name in order:
                bench.settle()
                load = Load(1, _PATIENCE_S, 0.0, 0.0, requests=1, discard=True)
                values = bench.generator.run(servers[name], BY_NAME[name].script(files.BIG, size), load, prefix)
                values["gb_s"] = values["bytes"] / values["elapsed_s"] / 1e9
                bench.results.add(DISCARD, name, 1, round_, values)


def _place(servers: list[Running]) -> tuple[str, ...]:
    """Put the servers on one processor; returns the command that puts the reader on another, if there is one."""
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) == 1:
        return ()
    for server in servers:
        procfs.pin(server.pids, {cpus[0]})
    return ("taskset", "-c", str(cpus[1]))
