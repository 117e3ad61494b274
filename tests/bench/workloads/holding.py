"""Connections that are opened and held, for the workloads in which others wait."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from tests.bench import procfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.bench.peers import Running

_CONNECT_S = 20.0
_PACE_S = 0.002
"""Between two connections: a backlog of nine is soon full, and then TCP waits a second."""
_STABLE_S = 0.5
_PATIENCE_S = 60.0


@contextlib.contextmanager
def connections(server: Running, count: int, *, request: bytes = b"", end: bytes = b"") -> Iterator[None]:
    """So many connections that send nothing, or one request and read the reply that ends with ``end``."""
    held = []
    try:
        for _ in range(count):
            held.append(socket.create_connection(("127.0.0.1", server.port), _CONNECT_S))
            time.sleep(_PACE_S)
            if request:
                _ask(held[-1], request, end)
        stable(server)
        yield
    finally:
        for connection in held:
            connection.close()


def stable(server: Running, at_most: int | None = None) -> None:
    """Wait until the number of the server's processes changes no more, and is ``at_most`` so many."""
    deadline = time.monotonic() + _PATIENCE_S
    count, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = len(server.pids)
        if now != count:
            count, since = now, time.monotonic()
        elif time.monotonic() > since + _STABLE_S and (at_most is None or count <= at_most):
            return
        time.sleep(0.1)
    raise RuntimeError(f"{server.peer.name} has {count} processes, and they come and go")


def master_pid(server: Running) -> int:
    """The process of forkserver's that accepts and forks: the supervisor's only child."""
    return procfs.children(server.process.pid)[0]


def _ask(connection: socket.socket, request: bytes, end: bytes) -> None:
    connection.sendall(request)
    reply = b""
    while not reply.endswith(end):
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError(f"no whole reply: {reply[:100]!r}")
        reply += piece
