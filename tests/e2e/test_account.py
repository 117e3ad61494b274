"""Whoever ends, client, child, master or supervisor: the log tells what became of each file."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket

import pytest

from forkserver.kernel import libc

PR_SET_CHILD_SUBREAPER = 36
SIZE = 64 << 20
PIECE = 4 << 20


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line))


def test_a_fetch_in_pieces_that_is_killed_is_not_told_as_ok(serve, root, begin, place, eventually):
    with open(root / "large", "wb") as file:
        file.truncate(SIZE)
    server = serve()
    run = begin(server, "--limit-rate", "8M", "large")

    def verified() -> bool:
        # The list has one line of the form "INDEX SHA-256 ..." for each verified piece. Its other lines tell of pieces
        # that are on their way.
        lists = [each.read_bytes() for each in place.glob(".fsget-*.sums")]
        return any(re.search(rb"^\d+ [0-9a-f]{64} .*\n", each, re.MULTILINE) for each in lists)

    eventually(verified, "a piece has come")
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
    # What the dead master had not reported yet is lost, one second's worth; what its children finished is counted.
    assert manager.served[-1] <= len(clients.whole) + clients.unanswered


@pytest.fixture
def slow(serve, root, get, large):
    """A server with four transfers that stand still in the middle of their files, one of them with two pieces done."""
    (root / "large file").write_bytes(large)
    server = serve()
    transfers = [get(server, b"GET /large%20file") for _ in range(3)]
    transfers.append(get(server, b"GET /hello.txt length=5"))
    assert transfers[-1].rest(hang_up=False) == (b"Hello", b"FS1 END ok\n")
    return server, transfers


def peer_of(transfer) -> str:
    return "{}:{}".format(*transfer.socket.getsockname())


def test_orphans_that_are_killed_are_told_with_peer_file_and_bytes(slow):
    server, transfers = slow
    dead = server.master_pid
    os.kill(dead, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    for transfer in transfers:
        os.kill(transfer.pid, signal.SIGKILL)
        line = fields(server.wait_for(f" orphan pid={transfer.pid} "))
        whole = transfer is transfers[-1]
        expected = {
            "cause": "SIGKILL",
            "start": transfer.field("start"),
            "peer": peer_of(transfer),
            "connections": "1",
            "request": "GET",
            "path": "/hello.txt" if whole else "/large%20file",
        }
        assert {name: line[name] for name in expected} == expected
        assert int(line["sent"]) == 5 if whole else 0 < int(line["sent"]) < transfer.length
        assert int(line["wall_ms"]) >= 0
        assert int(line["cpu_ms"]) >= 0
        assert int(line["maxrss_kib"]) > 1000
    assert not server.log(" end ")


def test_orphans_that_end_in_order_have_their_line_themselves(slow, large):
    server, transfers = slow
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    for transfer in transfers[:3]:
        assert transfer.rest() == (large, b"FS1 END ok\n")
    for transfer in transfers:
        transfer.close()
        line = fields(server.wait_for(f" orphan pid={transfer.pid} "))
        assert line["cause"] in {"done", "retired"}, "the client or the child hangs up first"
        assert [line[name] for name in ("requests", "request", "path")] == ["1", "-", "-"]
        assert fields(server.log(f" end pid={transfer.pid} ")[0])["sent"] == line["sent"]


def test_the_connections_of_orphans_count_as_served(serve, root, get, manager):
    server = serve("--connections-per-child", "9", prefix=manager.prefix)
    (root / "file").write_bytes(bytes(100))
    for _ in range(3):
        assert server.ask(b"PING\n")
    server.wait_until(lambda: " 3 served" in manager.hear(), "three are counted")
    transfers = [get(server, b"GET /file length=50") for _ in range(4)]
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    for transfer in transfers:
        transfer.close()
    server.wait_for(" orphan ", len(transfers))
    server.wait_until(lambda: " 7 served" in manager.hear(), "four more are counted")
    assert manager.served == sorted(manager.served)


def test_a_child_that_is_killed_is_told_with_its_file(slow):
    server, transfers = slow
    os.kill(transfers[0].pid, signal.SIGKILL)
    line = fields(server.wait_for(f" died pid={transfers[0].pid} "))
    assert (line["peer"], line["request"], line["path"]) == (peer_of(transfers[0]), "GET", "/large%20file")


def test_a_long_path_is_cut_and_marked(serve, root, get):
    path = root.joinpath(*["d" * 200] * 3)
    path.mkdir(parents=True)
    (path / "file").write_bytes(bytes(10))
    server = serve()
    name = "/".join(["", *["d" * 200] * 3, "file"])
    transfer = get(server, f"GET {name} length=5".encode())
    os.kill(transfer.pid, signal.SIGKILL)
    told = fields(server.wait_for(f" died pid={transfer.pid} "))["path"]
    assert told.endswith("...")
    assert name.startswith(told.removesuffix("..."))
    assert len(told) > 200


@pytest.fixture
def subreaper():
    """Orphans of the supervisor become children of the test."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.usefixtures("subreaper")
def test_where_nobody_keeps_the_tables_a_master_without_its_supervisor_tells_of_each_transfer(slow, large):
    server, transfers = slow
    master_pid, everybody = server.master_pid, [server.master_pid, *server.children()]
    try:
        server.process.kill()
        server.wait_for(" drain reason=")
        os.kill(transfers[0].pid, signal.SIGKILL)
        line = fields(server.wait_for(f" died pid={transfers[0].pid} cause=SIGKILL "))
        assert (line["peer"], line["request"], line["path"]) == (peer_of(transfers[0]), "GET", "/large%20file")
        for transfer in transfers[1:]:
            if transfer is not transfers[-1]:
                assert transfer.rest() == (large, b"FS1 END ok\n")
            transfer.close()
            server.wait_for(f" end pid={transfer.pid} ")
            server.wait_for(f" receipt pid={transfer.pid} ")
        assert os.waitpid(master_pid, 0) == (master_pid, 0)
    finally:
        for pid in everybody:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    server.stop()


def test_orphans_count_against_max_children_until_they_end(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, get, large, connect, manager
):
    (root / "large").write_bytes(large)
    server = serve("--max-children", "2", "--max-per-peer", "2", prefix=manager.prefix)
    transfer = get(server, b"GET /large")
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    server.wait_until(lambda: " 1 of 2 children" in manager.hear(), "the orphan is counted")
    connections = [connect(server) for _ in range(2)]
    for connection in connections:
        connection.sendall(b"PING\n")
    assert connections[0].recv(1000).startswith(b"FS1 200 ok ")
    connections[1].settimeout(0.5)
    with pytest.raises(TimeoutError):  # it waits in the backlog
        connections[1].recv(1000)
    connections[1].settimeout(20)
    transfer.close()
    server.wait_for(" orphan ")
    assert connections[1].recv(1000).startswith(b"FS1 200 ok ")
