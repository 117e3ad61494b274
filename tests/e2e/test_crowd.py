"""Two hundred clients at once: each is served in the end, by a process of its own, and nothing is left of it."""

from __future__ import annotations

import collections
import concurrent.futures
import os
import random
import re
import signal
from collections.abc import Callable

import pytest

from forkserver.client.fetch.download import fetch_file
from forkserver.client.local.target import local_file
from forkserver.client.remote.address import Address
from forkserver.client.remote.session import Session

CROWD = 200
PROGRAMS = 10
MANY_PROGRAMS = 40
MAX_CHILDREN = 50
SIZES = (0, 100, 30_000, 1_000_000)


@pytest.fixture
def contents(root) -> list[bytes]:
    generator = random.Random(200)
    made = [generator.randbytes(size_bytes) for size_bytes in SIZES]
    for number, content in enumerate(made):
        (root / str(number)).write_bytes(content)
    return made


@pytest.fixture
def crowd(tmp_path, begin, backlog, eventually, contents):
    """Let a crowd fetch, ``programs`` of it real ``fsget``, the others threads that run its code; all must succeed."""

    def name(number: int) -> str:
        return str(number % len(contents))

    def thread(server, number: int) -> None:
        session = Session(Address(server.host, server.port), timeout_s=30, retries=30)
        with local_file(os.fsencode(tmp_path / f"{number}" / name(number))) as target:
            fetch_file(session, b"/" + name(number).encode(), target, lambda _event: None)
        session.close()

    def run(server, programs: int, released: Callable[[], None] = lambda: None) -> None:
        for number in range(CROWD):
            (tmp_path / str(number)).mkdir()
        # All at once indeed: while the master is stopped they pile up before its door. The supervisor is stopped first,
        # and goes on last: it would take the master for stuck.
        stopped = (server.process.pid, server.master_pid)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        with concurrent.futures.ThreadPoolExecutor(CROWD) as threads:
            try:
                others = [threads.submit(thread, server, number) for number in range(programs, CROWD)]
                runs = [
                    begin(server, "--retries", "30", name(number), place=tmp_path / str(number))
                    for number in range(programs)
                ]
                eventually(lambda: backlog(server) == CROWD, "all clients have connected")
            finally:
                for pid in reversed(stopped):
                    os.kill(pid, signal.SIGCONT)
            released()
            results = [each.result() for each in runs]
            for each in others:
                each.result()
        assert [(result.status, result.err) for result in results] == [(0, "")] * programs
        for number in range(CROWD):
            content = contents[number % len(contents)]
            assert (tmp_path / str(number) / name(number)).read_bytes() == content
            assert len(os.listdir(tmp_path / str(number))) == 1
        fetches = [line for line in server.log(" status=200 outcome=ok ") if " request=GET " in line]
        assert len(fetches) == CROWD

    return run


@pytest.mark.timeout(240)  # forty interpreters start on a busy machine
def test_two_hundred_clients_of_which_most_are_refused_at_first_all_succeed(serve, crowd, accounted):
    server = serve("--max-children", str(MAX_CHILDREN))
    # How many of the crowd are there at once is the scheduler's affair. Who holds all that one peer may have, and lets
    # go when the crowd has met that, has them refused for certain.
    held = [server.connect() for _ in range(MAX_CHILDREN // 2)]
    for connection in held:
        connection.sendall(b"PING\n")
        assert connection.recv(100).startswith(b"FS1 200 ok ")

    def let_go() -> None:
        server.wait_for(" status=429 reason=too-many-connections", CROWD // 2)
        for connection in held:
            connection.close()

    crowd(server, MANY_PROGRAMS, let_go)
    accounted(server, CROWD + len(held))


def test_two_hundred_clients_wait_in_the_backlog_where_all_of_them_may_be_served(serve, crowd, accounted):
    server = serve("--max-children", str(MAX_CHILDREN), "--max-per-peer", str(CROWD))
    crowd(server, PROGRAMS)
    assert not server.log(" refused ")
    accounted(server, CROWD)
    assert len({pid_of(line) for line in server.log(" end ")}) == CROWD, "a child of its own for everyone"


def test_two_hundred_clients_are_served_by_spare_children_that_take_five_each(serve, crowd, accounted, states):
    options = ("--max-per-peer", str(CROWD), "--spare", "8", "--connections-per-child", "5")
    server = serve("--max-children", str(MAX_CHILDREN), *options)
    crowd(server, PROGRAMS)
    assert not server.log(" refused ")
    accounted(server, CROWD, idle=MAX_CHILDREN)
    served = collections.Counter(pid_of(line) for line in server.log(" end "))
    assert max(served.values()) == 5, "no child serves more than it may, and some serve all they may"
    server.wait_until(lambda: "Z" not in states(server.children()), "no zombie")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok "), "it goes on"


def pid_of(line: str) -> str:
    found = re.search(r" pid=(\d+) ", line)
    assert found
    return found[1]
