"""Whoever ends, client, child, master or supervisor: the log tells what became of each file."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket

import pytest

SIZE = 64 << 20
PIECE = 4 << 20


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line))


def test_a_fetch_in_pieces_that_is_killed_is_not_told_as_ok(serve, root, begin, place, eventually):
    with open(root / "large", "wb") as file:
        file.truncate(SIZE)
    server = serve()
    run = begin(server, "--limit-rate", "8M", "large")

    def written() -> int:
        return sum(each.stat().st_blocks * 512 for each in place.rglob("*") if each.is_file())

    eventually(lambda: written() > PIECE, "some pieces have come")
    run.process.kill()
    line = fields(server.wait_for(" end "))
    # Where nothing was on its way when it died the connection was closed, and not reset.
    assert line["outcome"] in ("peer-gone", "partial")
    assert (line["offset"], line["size"]) == ("0", str(SIZE))
    assert PIECE <= int(line["sent"]) < SIZE
    assert f" cause={'peer-gone' if line['outcome'] == 'peer-gone' else 'done'} " in server.wait_for(" receipt ")


def test_the_lines_of_a_file_that_came_over_several_connections_add_up_to_it(serve, root, fsget):
    (root / "large").write_bytes(bytes(range(256)) * (SIZE // 256))
    server = serve()
    assert fsget(server, "-j", "4", "large").status == 0
    server.quiet()
    lines = [fields(line) for line in server.log(" end ") if " request=GET " in line]
    assert sum(int(line["sent"]) for line in lines) == SIZE
    assert {line["size"] for line in lines} == {str(SIZE)}
    assert {line["outcome"] for line in lines} <= {"ok", "partial"}
    spans = sorted((int(line["offset"]), line["outcome"]) for line in lines)
    assert spans[0][0] == 0
    assert [outcome for _, outcome in spans].count("ok") == 1, "one of them reached the end of the file"


class Manager:
    """The service manager's end of NOTIFY_SOCKET. ``served`` is every number that a status has told so far."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")
        self.prefix = ["env", "NOTIFY_SOCKET=@" + self._socket.getsockname()[1:].decode()]
        self.served: list[int] = []

    def hear(self) -> str:
        """The last status that was told since the last call."""
        status = ""
        while select.select([self._socket], [], [], 0)[0]:
            for found in re.finditer(r"STATUS=.* ([\d,]+) served", self._socket.recv(65536).decode()):
                status = found[0]
                self.served.append(int(found[1].replace(",", "")))
        return status

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager():
    with contextlib.closing(Manager()) as manager:
        yield manager


def test_the_number_of_connections_served_rises_through_reloads_and_counts_each(serve, fetchers, manager):
    server = serve(prefix=manager.prefix)
    clients = fetchers(server, 8)
    for reloads in range(1, 4):
        clients.wait_for(20)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(" ready ", reloads + 1)
        manager.hear()
    clients.stop()
    assert (clients.wrong, clients.unanswered) == ([], 0)
    count = len(clients.whole)
    server.wait_until(lambda: f" {count:,} served" in manager.hear(), f"a status with {count:,} served")
    assert manager.served == sorted(manager.served)


def test_the_number_of_connections_served_rises_when_a_master_is_killed(serve, fetchers, manager):
    server = serve(prefix=manager.prefix)
    clients = fetchers(server, 8)
    clients.wait_for(50)
    server.wait_until(lambda: manager.hear() and manager.served[-1] > 20, "some are counted")
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    clients.wait_for(20)
    clients.stop()
    server.wait_until(lambda: " 0 of " in manager.hear(), "a status of a server that has nothing left to do")
    assert manager.served == sorted(manager.served)
    assert manager.served[-1] <= len(clients.whole) + clients.unanswered
