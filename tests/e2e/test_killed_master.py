"""A master killed outright, and a supervisor: what the clients notice, and what is left."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from forkserver.kernel import libc

CLIENTS = 16
STALLED = 4
KILLS = 3
PR_SET_CHILD_SUBREAPER = 36


@pytest.mark.parametrize("options", [(), ("--spare", "8", "--connections-per-child", "5")], ids=["forked", "spare"])
def test_a_killed_master_costs_nobody_a_transfer_and_is_replaced_at_once(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, get, large, fetchers, states, options
):
    (root / "large").write_bytes(large)
    server = serve(*options)
    clients = fetchers(server, CLIENTS - STALLED)
    orphaned = []
    for kill in range(1, KILLS + 1):
        clients.wait_for(CLIENTS)
        stalled = [get(server, b"GET /large") for _ in range(STALLED)]
        before = server.master_pid
        killed_at = time.monotonic()
        os.kill(before, signal.SIGKILL)
        server.wait_for(" ready ", kill + 1)
        assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
        # Some 0.5 s on an idle machine. The tests beside this one may have both processors.
        assert time.monotonic() - killed_at < 3
        assert server.master_pid != before
        assert f" master-died pid={before} reason=" in server.wait_for(" master-died ", kill)
        clients.wait_for(CLIENTS)
        for transfer in stalled:
            assert transfer.rest() == (large, b"FS1 END ok\n")
            transfer.close()
            orphaned.append(transfer.pid)
    clients.stop()
    assert clients.wrong == []
    assert clients.unanswered <= KILLS, "a master has one connection at a time in its hand"
    for pid in orphaned:
        line = server.wait_for(f" orphan pid={pid} ")
        # Done: the client hung up first; retired: the child did, because there is no master any more.
        assert " cause=done " in line or " cause=retired " in line
    # How many idle children a crowd leaves behind depends on the scheduler; they end when they have waited long enough.
    server.quiet(idle=256 if options else 0)
    server.wait_until(lambda: set(states([*server.children(), server.master_pid])) == {"S"}, "no zombie of the master")
    server.wait_until(lambda: children_of(server.process.pid) == [server.master_pid], "no orphan, no zombie")
    answers = len(clients.whole) + KILLS * STALLED + KILLS
    server.wait_until(lambda: len(server.log(" outcome=ok ")) >= answers, "a line for every transfer and every PING")
    assert len(server.log(" outcome=ok ")) == answers
    assert not server.log(" died ")


def test_fsget_asks_again_when_the_master_dies_with_its_connection(serve, root, begin, eventually, backlog):
    (root / "f").write_bytes(b"x" * 1000)
    server = serve()
    os.kill(server.master_pid, signal.SIGSTOP)
    runs = [begin(server, "-o", f"f{number}", "f") for number in range(8)]
    eventually(lambda: backlog(server) == len(runs), "all clients wait for the master")
    os.kill(server.master_pid, signal.SIGKILL)
    assert [(run.result().status, run.result().err) for run in runs] == [(0, "")] * len(runs)


def test_orphans_end_idle_connections_and_finish_what_was_begun(serve, root, get, connect, large):
    (root / "large").write_bytes(large)
    server = serve()
    transfer = get(server, b"GET /large")
    idle = connect(server)
    idle.sendall(b"PING\n")
    pid = int(re.findall(rb" pid=(\d+) ", idle.recv(4096))[0])
    os.kill(server.master_pid, signal.SIGKILL)
    assert idle.recv(4096) == b""
    idle.close()
    assert " cause=retired " in server.wait_for(f" orphan pid={pid} ")
    assert transfer.rest() == (large, b"FS1 END ok\n")


def test_orphans_that_outlast_the_drain_end_in_a_trailer_that_says_so(serve, root, get, configuration):
    with (root / "endless").open("wb") as file:
        file.truncate(1 << 40)
    server = serve(*configuration("drain_s = 0.1"))
    transfer = get(server, b"GET /endless")
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    server.process.terminate()
    assert transfer.discard()[1].startswith(b"FS1 END draining")
    assert " cause=SIG" not in server.wait_for(f" orphan pid={transfer.pid} ")
    assert server.process.wait(20) == 0


def test_what_waits_in_the_backlog_when_a_stop_and_the_death_of_the_master_come_together_is_served(
    serve, connect, states, eventually
):
    server = serve()
    master = server.master_pid
    os.kill(server.process.pid, signal.SIGSTOP)
    os.kill(master, signal.SIGKILL)
    eventually(lambda: states([master]) == "Z", "its end: until then it accepts")
    clients = [connect(server) for _ in range(10)]
    for client in clients:
        client.sendall(b"PING\n")
    server.process.terminate()
    os.kill(server.process.pid, signal.SIGCONT)
    assert [client.recv(4096)[:10] for client in clients] == [b"FS1 200 ok"] * 10
    for client in clients:
        client.close()
    assert server.process.wait(20) == 0


def test_what_waits_for_a_master_that_is_to_be_started_later_is_served_before_a_stop(serve, connect):
    server = serve()
    for kill in range(1, 6):
        os.kill(server.master_pid, signal.SIGKILL)
        server.wait_for(" master-died ", kill)
        if kill < 5:
            server.wait_for(" ready ", kill + 1)
    client = connect(server)
    client.sendall(b"PING\n")
    server.process.terminate()
    assert client.recv(4096).startswith(b"FS1 200 ok")
    client.close()
    assert server.process.wait(20) == 0


@pytest.fixture
def subreaper():
    """Orphans of the supervisor become children of the test, which can see how they end."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield
    libc.prctl(PR_SET_CHILD_SUBREAPER, 0)


@pytest.mark.usefixtures("subreaper")
@pytest.mark.parametrize("options", [(), ("--spare", "3")], ids=["forked", "spare"])
def test_without_its_supervisor_a_master_lets_transfers_finish_and_then_nothing_remains(  # noqa: PLR0913, PLR0917
    serve, root, get, large, backlog, eventually, options
):
    (root / "large").write_bytes(large)
    server = serve(*options)
    transfers = [get(server, b"GET /large") for _ in range(STALLED)]
    master_pid, everybody = server.master_pid, [server.master_pid, *server.children()]
    try:
        server.process.kill()
        server.wait_for(" drain reason=")
        eventually(lambda: backlog(server) is None, "nobody listens")
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        for transfer in transfers:
            assert transfer.rest() == (large, b"FS1 END ok\n")
            transfer.close()
        pid, status = os.waitpid(master_pid, 0)
        assert (pid, status) == (master_pid, 0), "it ended in order"
        assert not [pid for pid in everybody if Path(f"/proc/{pid}").exists()]
    finally:
        for pid in everybody:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
    server.stop()
    assert len(server.log(" end ")) == STALLED


def children_of(pid: int) -> list[int]:
    """By proc_pid_task(5), zombies among them."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
