"""Memory that runs out costs connections, never the supervisor; with the documented size it does not run out."""

from __future__ import annotations

import re
import select
import socket
import time
from pathlib import Path
from typing import Self

import pytest

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
CONFIGURATION = "/etc/forkserver/forkserver.toml"
REQUEST = b"GET /m64.bin digest=sha256\n"
MAX_LEFT = 20
"""A larger crowd leaves so much that the masters that it costs would take half a minute."""
KILLS = 16
"""The supervisor of an earlier version was among the first five."""


class Crowd:
    """Clients that ask for much and read nothing. Each connects anew when its connection is cut."""

    def __init__(self, count: int, *, requests: int = 1) -> None:
        self._request = REQUEST * requests
        self._poll = select.poll()
        self._sockets: dict[int, tuple[int, socket.socket]] = {}
        self.cut = 0
        for number in range(count):
            self._connect(number)

    def pressed(self, seconds: float) -> bool:
        """Go on for so long. True."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left * 1000):
                number, ended = self._sockets.pop(fd)
                self._poll.unregister(fd)
                ended.close()
                self.cut += 1
                self._connect(number)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for _number, each in self._sockets.values():
            each.close()

    def _connect(self, number: int) -> None:
        client = socket.socket()
        # Peers enough that none has too many connections.
        client.bind((f"127.0.1.{number // 50 + 1}", 0))
        client.connect(("127.0.0.1", 2057))  # the backlog takes all of them
        client.setblocking(False)
        client.send(self._request)
        self._sockets[client.fileno()] = (number, client)
        self._poll.register(client, select.POLLRDHUP)


@pytest.fixture
def large(service):
    """A file larger than all that sockets take in."""
    service.run("truncate", "--size", "64M", "/srv/files/m64.bin")
    yield service
    service.run("rm", "/srv/files/m64.bin")


@pytest.fixture
def configure(host):
    """``configure(line)``: add a line to the configuration for one test."""
    before = host.run("cat", CONFIGURATION).stdout

    def write(text: str) -> None:
        host.run("sh", "-c", f'printf %s "$0" >{CONFIGURATION}', text)

    yield lambda line: write(f"{before}\n{line}\n")
    write(before)


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("clients", "settings"), [(60, ""), (8, "max_children = 8\nmax_per_peer = 8")])
def test_clients_that_read_nothing_where_memory_is_far_too_small_never_end_the_supervisor(  # noqa: PLR0913, PLR0917 - fixtures
    large, drop_in, configure, load, clients, settings
) -> None:
    configure(settings)
    drop_in("MemoryMax=24M\n")
    large.run("systemctl", "restart", "forkserver.service")
    main, began = large.show("MainPID"), large.now()
    with Crowd(clients) as crowd:
        large.wait_until(lambda: crowd.pressed(0.5) and large.oom_kills() >= KILLS, "the kills")
        assert large.show("MainPID") == main
    # The backlog still has the connections of the crowd. Each master that they cost is replaced after up to 5 s.
    if clients > MAX_LEFT:
        drop_in("MemoryMax=infinity\n")
    again = load(2, retries=30, patience_s=60)
    again.stop()
    assert large.show("MainPID") == main
    assert large.show("NRestarts") == "0"
    assert "Main process exited" not in large.journal(began)


def documented_bytes(children: int) -> int:
    """What docs/operations.md says of MemoryMax=."""
    row = r"^\| `MemoryMax=` \|[^|]*\| (\d+) MB, and (\d+) MB for each of `max_children`"
    found = re.search(row, OPERATIONS.read_text(), re.MULTILINE)
    assert found
    base, each = map(int, found.groups())
    return (base + children * each) * 1000 * 1000


@pytest.mark.timeout(240)
def test_with_the_memory_that_is_documented_nothing_is_killed_even_when_nobody_reads(large, drop_in, configure) -> None:
    children = 40
    configure(f"max_children = {children}\nmax_per_peer = {children}")
    drop_in(f"MemoryMax={documented_bytes(children)}\n")
    large.run("systemctl", "restart", "forkserver.service")
    began = large.now()
    # Requests that nobody reads take memory too.
    with Crowd(children, requests=2000) as crowd:
        large.wait_until(lambda: len(large.pids()) == children + 2, "all children")
        crowd.pressed(2.0)
        large.run("systemctl", "reload", "forkserver.service")
        crowd.pressed(2.0)
        assert (crowd.cut, large.oom_kills()) == (0, 0)
        assert large.journal(began, "--grep=^(died|master-died) ") == ""
