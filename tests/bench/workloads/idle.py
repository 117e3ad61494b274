"""Memory of idle connections: the proportional set size of all the server's processes, with them and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import files, procfs
from tests.bench.say import say
from tests.bench.workloads import holding

if TYPE_CHECKING:
    from tests.bench.bench import Bench

IDLE = "idle connections"
AFTER_A_REQUEST = "plain, after a request"
_SERVERS = "plain pooled c-fork tcpserver busybox rsyncd vsftpd forking threads http.server apache nginx lighttpd"


def idle(bench: Bench) -> None:
    """Connections that have sent nothing yet; of ours, too, those that wait for a second request."""
    names = bench.plan.peers(bench.plan.idle_servers or _SERVERS.split())
    for round_, order in bench.turns(names):
        say(f"{IDLE}, round {round_ + 1} of {bench.plan.rounds}")
        for name in order:
            _measure(bench, name, round_)
        if "plain" in names:
            _measure(bench, "plain", round_, asked=True)


def _measure(bench: Bench, name: str, round_: int, *, asked: bool = False) -> None:
    count = bench.plan.idle
    request, end = (f"GET /{files.SMALL}\n".encode(), b"FS1 END ok\n") if asked else (b"", b"")
    with bench.running([name]) as servers:
        server = servers[name]
        holding.stable(server)
        before = server.pids
        before_kib = procfs.pss_kib(before)
        with holding.connections(server, count, request=request, end=end):
            pids = server.pids
            added_kib = procfs.pss_kib(pids) - before_kib
        values = {"kib": added_kib / count, "processes": float(len(pids) - len(before))}
        bench.results.add(IDLE, AFTER_A_REQUEST if asked else name, count, round_, values)
