"""This server in its three settings, and the servers written for the comparison: Python's, the exercise's, C's."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.bench import script
from tests.bench.peers import Peer, Room

_HERE = Path(__file__).parent
_POOL = "32"


def _forkserver(*options: str, most: int = 1200):
    patience = "".join(f"{name} = 600.0\n" for name in ("request_s", "idle_s", "stall_s"))

    def command(room: Room, port: int) -> list[str]:
        path = room.configuration("forkserver.toml", f'{patience}log_format = "plain"\n')
        limits = ["--max-children", str(most), "--max-per-peer", str(most)]
        serve = ["serve", "--config", path, "--root", str(room.root), "--port", str(port), *limits, *options]
        return [sys.executable, "-m", "forkserver.front.cli", *serve]

    return command


def _python(program: str, *arguments: str):
    def command(room: Room, port: int) -> list[str]:
        return [sys.executable, str(_HERE / "python" / program), "127.0.0.1", str(port), str(room.root), *arguments]

    return command


def _c(program: str, *arguments: str):
    def command(room: Room, port: int) -> list[str]:
        return [str(room.programs / program), "127.0.0.1", str(port), str(room.root), *arguments]

    return command


def _http_server(room: Room, port: int) -> list[str]:
    return [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", str(room.root), str(port)]


PLAIN = Peer("plain", "**forkserver**, a child per connection", script.native, _forkserver(), ours=True)
SPARES = Peer("spares", "**forkserver**, 16 spares", script.native, _forkserver("--spare", "16"), ours=True)
POOLED = Peer(
    "pooled",
    "**forkserver**, 100 connections per child",
    script.native,
    _forkserver("--spare", "16", "--connections-per-child", "100"),
    ours=True,
)
CROWD = Peer("crowd", "**forkserver**, room for thousands", script.native, _forkserver(most=12000), ours=True)
OURS = [PLAIN, SPARES, POOLED]

C_FORK = Peer("c-fork", "C, fork per connection", script.native, _c("fork_server"), note="the bound; no log")
C_POOL = Peer("c-pool", f"C, {_POOL} pre-forked", script.native, _c("pool_server", _POOL), note="the bound; no log")
FORKING = Peer(
    "forking", "Python ForkingTCPServer", script.native, _python("forking.py"), note="backlog 4096 instead of 5; no log"
)
HTTP_SERVER = Peer("http.server", "Python http.server", script.http, _http_server, note="threads; its backlog is 5")
THREADS = Peer(
    "threads",
    "the exercise's, a thread per connection",
    script.exercise,
    _python("exercise.py", "threads"),
    note="its backlog is 100; no log",
)
ITERATIVE = Peer(
    "iterative",
    "the exercise's, iterative",
    script.exercise,
    _python("exercise.py", "iterative"),
    note="its backlog is 100; no log",
)

PEERS = [C_FORK, C_POOL, FORKING, HTTP_SERVER, THREADS, ITERATIVE]
