"""A child that was stopped (SIGSTOP) keeps its place as long as its client is there, and no longer."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.conftest import Server, read_all

SIZE = 64 << 20
"""More than the buffers of a connection hold: the child is in the middle of it."""
POOL = ("--connections-per-child", "100")
POOLS = pytest.mark.parametrize("pool", [(), POOL, (*POOL, "--spare", "1")], ids=["alone", "pool", "spare"])


@pytest.fixture(autouse=True)
def large(root: Path) -> None:
    with (root / "large").open("wb") as file:
        file.truncate(SIZE)


def begin(server: Server) -> tuple[socket.socket, int]:
    """A transfer that has begun, and the PID of its child."""
    connection = server.connect()
    connection.sendall(b"GET /large\n")
    found = re.search(rb" pid=(\d+)", connection.recv(4096, socket.MSG_PEEK))
    assert found
    return connection, int(found[1])


def state(pid: int) -> bytes:
    """One letter, by proc_pid_stat(5): ``S`` sleeps, ``T`` is stopped."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]


def stop(pid: int) -> None:
    """Stop a process; returns once it stands still."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + 20
    while state(pid) != b"T":
        assert time.monotonic() < deadline


def leave(connection: socket.socket) -> None:
    """With what the server has sent not read: the kernel answers that with a reset."""
    connection.close()


@POOLS
@pytest.mark.parametrize("limit", ["--max-children", "--max-per-peer"])
def test_a_client_that_leaves_a_stopped_child_frees_its_place(serve, pool, limit):
    server = serve(*pool, limit, "1")
    connection, pid = begin(server)
    stop(pid)
    leave(connection)
    assert " outcome=peer-gone " in server.wait_for(f" end pid={pid} ")
    server.wait_until(lambda: server.ask(b"PING\n").startswith(b"FS1 200 ok "), "a place")


def test_a_client_that_left_before_its_child_was_stopped_frees_the_place_too(serve):
    # The master hears of the stop when it goes on: by then both have happened.
    server = serve("--max-children", "1")
    connection, pid = begin(server)
    os.kill(server.master_pid, signal.SIGSTOP)
    stop(pid)
    leave(connection)
    os.kill(server.master_pid, signal.SIGCONT)
    server.wait_for(f" end pid={pid} ")
    server.wait_until(lambda: server.ask(b"PING\n").startswith(b"FS1 200 ok "), "a place")


@POOLS
def test_a_stopped_child_whose_client_stays_goes_on_where_it_was(serve, pool):
    server = serve(*pool)
    connection, pid = begin(server)
    other, other_pid = begin(server)
    stop(pid)
    stop(other_pid)
    leave(other)
    server.wait_for(f" end pid={other_pid} ")  # so the master has looked at all that are stopped
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    os.kill(pid, signal.SIGCONT)
    connection.shutdown(socket.SHUT_WR)
    with connection:
        assert read_all(connection).endswith(b"FS1 END ok\n")
    server.wait_for(f" end pid={pid} ")


@pytest.mark.parametrize("reload", [False, True])
def test_a_client_that_sends_no_more_has_not_left(serve, reload):
    server = serve()
    connection, pid = begin(server)
    other, other_pid = begin(server)
    stop(pid)
    stop(other_pid)
    connection.shutdown(socket.SHUT_WR)
    if reload:
        server.process.send_signal(signal.SIGHUP)
        server.wait_for(" ready ", 2)
    leave(other)
    server.wait_for(f" end pid={other_pid} ")
    os.kill(pid, signal.SIGCONT)
    with connection:
        assert read_all(connection).endswith(b"FS1 END ok\n")


def test_a_client_that_closes_without_a_reset_when_all_is_answered_frees_its_place_at_once(serve):
    server = serve("--max-children", "1")
    with server.connect() as connection, connection.makefile("rb") as file:
        connection.sendall(b"PING\n")
        pid = int(file.readline().split()[3].removeprefix(b"pid="))
        server.wait_for(f" end pid={pid} ")
        server.wait_until(lambda: state(pid) == b"S", "a child that waits for the next request")
        stop(pid)
    server.wait_for(f" receipt pid={pid} ")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_a_child_that_goes_on_and_ends_is_no_longer_a_stopped_one(serve):
    server = serve()
    connection, pid = begin(server)
    stop(pid)
    os.kill(pid, signal.SIGCONT)
    with connection.makefile("rb") as file:
        file.read(SIZE // 2)  # so it goes on
    server.ask(b"PING\n")  # so the master has heard of that
    leave(connection)
    assert " cause=peer-gone " in server.wait_for(f" receipt pid={pid} ")


def test_a_stopped_child_whose_master_dies_goes_on_so_that_it_can_free_its_place(serve):
    server = serve("--max-children", "1")
    connection, pid = begin(server)
    stop(pid)
    os.kill(server.master_pid, signal.SIGKILL)
    leave(connection)
    assert " cause=peer-gone " in server.wait_for(f" orphan pid={pid} ")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_a_child_that_is_stopped_after_the_death_of_its_master_goes_on_so_that_it_can_free_its_place(serve):
    server = serve("--max-children", "1")
    connection, pid = begin(server)
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    os.kill(pid, signal.SIGSTOP)
    leave(connection)
    assert " cause=peer-gone " in server.wait_for(f" orphan pid={pid} ")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


@POOLS
@pytest.mark.parametrize("first", ["client", "drain"])
def test_a_drain_does_not_wait_for_a_stopped_child_whose_client_has_left(serve, pool, first):
    server = serve(*pool)
    connection, pid = begin(server)
    stop(pid)
    if first == "client":
        leave(connection)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(" drain ")
    leave(connection)
    assert server.process.wait(20) == 0
    assert time.monotonic() - began < 15, "half of drain_s"
    assert " outcome=peer-gone " in server.wait_for(f" end pid={pid} ")


def test_the_generation_before_a_reload_ends_when_the_client_of_its_stopped_child_leaves(serve):
    server = serve("--max-children", "1")
    connection, pid = begin(server)
    old = server.master_pid
    stop(pid)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(" ready ", 2)
    leave(connection)
    server.wait_until(lambda: not Path(f"/proc/{old}").exists(), "end of the old master")
    # The new master hears of that a moment later; until then it refuses whoever has too many connections.
    server.wait_until(lambda: server.ask(b"PING\n").startswith(b"FS1 200 ok "), "a place")


def test_a_stopped_child_that_waits_for_a_connection_goes_on(serve):
    server = serve("--spare", "1", "--max-children", "1")
    server.wait_until(lambda: len(server.children()) == 1, "a child that waits")
    (pid,) = server.children()
    os.kill(pid, signal.SIGSTOP)
    with server.connect() as connection:
        connection.sendall(b"PING\n")
        assert int(connection.recv(4096).split()[3].removeprefix(b"pid=")) == pid


def test_a_child_that_is_stopped_just_when_a_connection_comes_serves_it(serve):
    server = serve(*POOL, "--max-children", "1")
    for _ in range(4):
        server.ask(b"PING\n")
        server.wait_until(lambda: len(server.children()) == 1, "a child that waits")
        (pid,) = server.children()
        # The signal wakes the child, which may take a connection before it stands still.
        os.kill(pid, signal.SIGSTOP)
        assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_a_connection_that_was_forwarded_to_a_stopped_child_is_served(serve):
    server = serve(*POOL, "--spare", "1", "--max-children", "1")
    server.wait_until(lambda: len(server.children()) == 1, "a child that waits")
    (pid,) = server.children()
    os.kill(server.master_pid, signal.SIGSTOP)
    stop(pid)
    with server.connect() as connection:
        connection.sendall(b"PING\n")
        # The master forwards in the same turn in which it hears of the stop, or in one before.
        os.kill(server.master_pid, signal.SIGCONT)
        assert connection.recv(4096).startswith(b"FS1 200 ok ")


def test_a_client_that_only_seems_to_have_left_because_both_sides_have_ended_gets_the_rest(serve, root, unread):
    (root / "some").write_bytes(bytes(200_000))
    server = serve()
    with unread(server, b"GET /some\n", 200_000, half_close=True) as client:
        (pid,) = server.children()
        os.kill(pid, signal.SIGSTOP)  # not for long: the master continues the child
        assert read_all(client).endswith(bytes(200_000) + b"FS1 END ok\n")


def test_a_client_that_only_seems_to_have_left_because_its_last_request_lies_unread_gets_the_answer(serve):
    server = serve()
    with server.connect() as client:
        client.sendall(b"PING\n")
        pid = int(client.recv(4096).split()[3].removeprefix(b"pid="))
        server.wait_for(f" end pid={pid} ")
        server.wait_until(lambda: state(pid) == b"S", "a child that waits for the next request")
        stop(pid)
        client.sendall(b"GET /hello.txt\n")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client).endswith(b"\nHello, world\nFS1 END ok\n")


def test_a_drain_does_not_wait_for_a_stopped_child_that_waits_for_a_connection(serve):
    server = serve("--spare", "3")
    server.wait_until(lambda: len(server.children()) == 3, "three children that wait")
    # The master is not to hear of the stop before it hears of the drain.
    os.kill(server.master_pid, signal.SIGSTOP)
    for pid in server.children():
        stop(pid)
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(" drain ")
    os.kill(server.master_pid, signal.SIGCONT)
    assert server.process.wait(20) == 0
    assert time.monotonic() - began < 15, "half of drain_s"


def test_many_stopped_children_give_all_their_places_back(serve):
    server = serve("--max-children", "100", "--max-per-peer", "100")
    begun = [begin(server) for _ in range(80)]
    for _, pid in begun:
        stop(pid)
    for connection, _ in begun:
        leave(connection)
    server.wait_for(" end ", 80)
    server.quiet()
