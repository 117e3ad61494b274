"""Limits: of one peer, of all, of descriptors and processes. What is refused is told, and nothing of it remains."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

NOBODY = ("--reuid", "65534", "--regid", "65534", "--clear-groups")
READ_EVERYTHING = ("--inh-caps", "+dac_override", "--ambient-caps", "+dac_override")


def answered(connection: socket.socket) -> bytes:
    """The first line of the answer to a PING; the connection stays."""
    connection.sendall(b"PING\n")
    line = connection.recv(4096)
    assert line.endswith(b"\n")
    return line


def test_one_connection_too_many_is_refused_even_if_it_has_asked_before(serve, connect, backlog, eventually):
    server = serve("--max-per-peer", "2")
    kept = [connect(server) for _ in range(2)]
    for connection in kept:
        assert b" 200 ok " in answered(connection)
    # The request is there before the master looks: it will never be read, and must not cost the reply.
    os.kill(server.master_pid, signal.SIGSTOP)
    refused = connect(server)
    refused.sendall(b"GET /hello.txt\n" * 1000)
    eventually(lambda: backlog(server) == 1, "it waits before the door")
    os.kill(server.master_pid, signal.SIGCONT)
    server.wait_for(" refused ")
    with refused, refused.makefile("rb") as file:
        reply = file.read().decode()
    expected = rf'FS1 429 too-many-connections pid={server.master_pid} start=\S+ message="[^"]+"\n'
    assert re.fullmatch(expected, reply), "one line of the master's, then end-of-file"
    assert len(server.log(" status=429 reason=too-many-connections")) == 1
    # Another peer is another peer.
    with socket.create_connection((server.host, server.port), 20, ("127.0.0.2", 0)) as other:
        assert b" 200 ok " in answered(other)


def test_a_connection_that_ends_gives_its_peer_one_back(serve, connect):
    server = serve("--max-per-peer", "1")
    for _ in range(5):
        with connect(server) as connection:
            assert b" 200 ok " in answered(connection)
            with connect(server) as refused:
                assert b"FS1 429 " in refused.recv(4096)
        server.wait_until(lambda: not server.children(), "no child")
    server.wait_for(" refused ", 5)
    server.wait_for(" end ", 5)
    assert len(server.log(" refused ")) == len(server.log(" end ")) == 5


def test_who_comes_again_and_again_is_not_refused_for_connections_that_have_ended(serve):
    server = serve("--max-per-peer", "32")
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: server.ask(b"GET /hello.txt\n"), range(800)))
    assert {answer[:8] for answer in answers} == {b"FS1 200 "}


def test_a_crowd_of_the_refused_all_get_their_reply(serve, connect, backlog, eventually):
    server = serve("--max-per-peer", "1")
    first = connect(server)
    assert b" 200 ok " in answered(first)
    os.kill(server.master_pid, signal.SIGSTOP)
    crowd = [connect(server) for _ in range(150)]
    for connection in crowd:
        connection.sendall(b"GET /hello.txt\n")
    eventually(lambda: backlog(server) == len(crowd), "all wait before the door")
    os.kill(server.master_pid, signal.SIGCONT)
    server.wait_for(" refused ", len(crowd))
    assert [connection.recv(4096)[:8] for connection in crowd] == [b"FS1 429 "] * len(crowd)
    first.close()
    server.quiet()


def test_where_all_places_are_taken_connections_wait_for_one_and_nobody_spins(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, get, large, connect, backlog, eventually, processor_s, configuration
):
    (root / "large").write_bytes(large)
    options = configuration("stall_s = 1.0\nmax_children = 2\nmax_per_peer = 100")
    server = serve(*options)
    stalled = [get(server, b"GET /large") for _ in range(2)]
    used_s = processor_s(server.master_pid)
    waiting = [connect(server) for _ in range(5)]
    for connection in waiting:
        connection.sendall(b"GET /hello.txt\n")
        connection.shutdown(socket.SHUT_WR)
    eventually(lambda: backlog(server) == len(waiting), "five wait in the backlog")
    assert sorted(server.children()) == sorted(transfer.pid for transfer in stalled)
    # A second later those that take nothing lose their places.
    server.wait_for(" outcome=peer-too-slow ", len(stalled))
    for transfer in stalled:
        transfer.close()
    for connection in waiting:
        with connection.makefile("rb") as file:
            assert file.read().endswith(b"\nHello, world\nFS1 END ok\n")
    assert processor_s(server.master_pid) - used_s < 0.3
    assert not server.log(" refused ")
    server.quiet()


def free_descriptor(pid: int) -> int:
    """The lowest number that is free: with it as RLIMIT_NOFILE the process can open nothing more."""
    taken = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)


def test_a_master_out_of_descriptors_neither_spins_nor_stays_so(serve, connect, processor_s):
    server = serve()
    assert server.ask(b"PING\n")
    server.quiet()
    before = resource.prlimit(server.master_pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.master_pid, resource.RLIMIT_NOFILE, (free_descriptor(server.master_pid), before[1]))
    used_s = processor_s(server.master_pid)
    shed = [connect(server) for _ in range(10)]
    # One is given up with every pause of a tenth of a second, so that none waits for nothing.
    for connection in shed:
        assert connection.recv(4096) == b""
    assert processor_s(server.master_pid) - used_s < 0.2
    server.wait_for(' throttle reason="accept failed: Too many open files" ', len(shed))
    waiting = connect(server)
    resource.prlimit(server.master_pid, resource.RLIMIT_NOFILE, before)
    with waiting, connect(server) as another:
        assert b" 200 ok " in answered(another)
    server.quiet()


@pytest.fixture
def no_root() -> tuple[str, ...]:
    """A command that starts a program as a user whom RLIMIT_NPROC binds; root it does not."""
    if os.geteuid():
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root without setpriv(1) cannot become a user whose processes are counted")
    command = (setpriv, *NOBODY, *READ_EVERYTHING, "--")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"cannot become a user whose processes are counted: {tried.stderr.strip()}")
    return command


def limit_processes(prefix: tuple[str, ...], pid: int, soft: str) -> None:
    """Set the soft RLIMIT_NPROC of a process to an expression, as the user whose process it is."""
    code = (
        "import resource, sys; kind = resource.RLIMIT_NPROC; "
        f"hard = resource.prlimit({pid}, kind)[1]; resource.prlimit({pid}, kind, ({soft}, hard))"
    )
    subprocess.run([*prefix, sys.executable, "-c", code], check=True, timeout=20)


@pytest.mark.parametrize("options", [(), ("--spare", "2")], ids=["forked", "spare"])
def test_where_no_process_is_to_be_had_clients_are_told_and_served_later(serve, begin, no_root, options):
    server = serve("--max-per-peer", "2", *options, prefix=no_root)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    limit_processes(no_root, server.master_pid, "0")
    for child in server.children():
        os.kill(child, signal.SIGKILL)
    server.wait_until(lambda: not server.children(), "no child left to serve anybody")
    if not options:
        reply = server.ask(b"PING\n").decode()
        assert re.fullmatch(rf'FS1 503 busy pid={server.master_pid} start=\S+ message="[^"]+"\n', reply)
    run = begin(server, "--retries", "100", "hello.txt")
    failures = ' throttle reason="fork failed: Resource temporarily unavailable" pause_s='
    server.wait_for(failures, 3)
    pauses = [float(line.rpartition("=")[2]) for line in server.log(failures)]
    assert pauses[0] < pauses[1] < pauses[2], "longer each time"
    limit_processes(no_root, server.master_pid, "hard")
    assert (run.result().status, run.result().err) == (0, "")
    for _ in range(3):  # more than max_per_peer: whoever was refused is counted no longer
        assert begin(server, "--retries", "100", "hello.txt").result().status == 0
    server.quiet(idle=len(options))


def test_a_child_that_dies_before_it_served_slows_the_next_down_until_one_has_served(serve, connect):
    server = serve()

    def kill_one(count: int) -> str:
        with connect(server):
            server.wait_until(server.children, "a child that waits for its request")
            (child,) = server.children()
            os.kill(child, signal.SIGKILL)
            line = server.wait_for(f" died pid={child} cause=SIGKILL ")
            assert " requests=0 sent=0 " in line
        return str(server.wait_for(' throttle reason="a child died before it served anything" ', count))

    assert [kill_one(count).rpartition("=")[2] for count in (1, 2, 3)] == ["0.1", "0.2", "0.4"]
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok "), "service goes on"
    server.quiet()
    assert kill_one(4).endswith(" pause_s=0.1"), "one has served: the past is forgiven"
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    server.quiet()


def test_spare_children_that_were_killed_are_replaced(serve, states):
    server = serve("--spare", "3")
    server.wait_until(lambda: len(server.children()) == 3, "three spare children")
    first = server.children()
    for child in first:
        os.kill(child, signal.SIGKILL)
    server.wait_until(lambda: len(server.children()) == 3 and not set(server.children()) & set(first), "three others")
    assert "Z" not in states(server.children())
    assert len(server.log(" died pid=")) == 3
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    server.quiet(idle=3)


def test_children_that_a_crowd_leaves_behind_are_dismissed_under_the_least_load(serve):
    server = serve("--spare", "2", "--connections-per-child", "1000")
    crowd = [server.connect() for _ in range(12)]
    for connection in crowd:
        connection.sendall(b"PING\n")
        assert connection.recv(100).startswith(b"FS1 200 ok ")
    for connection in crowd:
        connection.close()
    most = len(server.children())
    assert most >= len(crowd)

    def few() -> bool:
        # Each request wakes another child: none of them waits for as long as idle children may.
        assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
        return len(server.children()) <= 3

    server.wait_until(few, "only a few children left")
    assert not server.log(" died ")
    assert not server.log(" throttle ")
    server.wait_for(" receipt pid=", most - 3)
