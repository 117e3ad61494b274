"""A child killed in the middle of a transfer: its client goes on with another, the others notice nothing."""

from __future__ import annotations

import os
import random
import re
import signal

import pytest

CLIENTS = 16


def pid_in(head: bytes) -> int:
    found = re.search(rb" pid=(\d+) ", head)
    assert found
    return int(found[1])


@pytest.mark.parametrize("options", [(), ("--spare", "4", "--connections-per-child", "3")], ids=["forked", "spare"])
def test_the_client_of_a_killed_child_goes_on_with_another_and_fifteen_notice_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, tmp_path, begin, fsget, relay, large, options
):
    (root / "large").write_bytes(large)
    # Every place is taken, of the server and of the one peer: a place not given back would show.
    server = serve("--max-children", str(CLIENTS), "--max-per-peer", str(CLIENTS), *options)
    held = relay(server)
    places = [tmp_path / str(number) for number in range(CLIENTS)]
    for place in places:
        place.mkdir()
    runs = [begin(held, "--json", "large", place=place) for place in places]
    server.wait_until(lambda: len(held.heads) == CLIENTS, "all transfers in progress")
    victim = random.choice([pid_in(head) for head in held.heads])
    assert victim in server.children()
    os.kill(victim, signal.SIGKILL)
    assert f" died pid={victim} cause=SIGKILL " in server.wait_for(" died pid=")
    held.release()
    results = [run.result() for run in runs]
    assert [(result.status, result.err) for result in results] == [(0, "")] * CLIENTS
    for place in places:
        assert (place / "large").read_bytes() == large
        assert os.listdir(place) == ["large"]
    served = [result.objects[0]["pids"] for result in results]
    assert sorted(map(len, served)) == [1] * (CLIENTS - 1) + [2], "one had to go on with another"
    (two,) = [pids for pids in served if len(pids) == 2]
    assert two[0] == victim
    # As many at once as before: the victim's place, and its peer's, are free again.
    again = relay(server)
    runs = [begin(again, "-o", f"again{number}", "large", place=places[0]) for number in range(CLIENTS)]
    server.wait_until(lambda: len(again.heads) == CLIENTS, "as many transfers at once as before")
    again.release()
    assert [(run.result().status, run.result().err) for run in runs] == [(0, "")] * CLIENTS
    assert fsget(server, "hello.txt").status == 0
    assert not server.log(" refused ")
    assert not server.log(" throttle "), "the victim had served something"
    server.wait_until(lambda: len(server.log(" end ")) == 2 * CLIENTS + 1, "a line for each but the victim's")
    assert len(server.log(" died pid=")) == 1
    server.quiet(idle=CLIENTS if options else 0)


def test_a_child_killed_while_it_sends_leaves_no_trailer_that_says_ok(serve, root, get, large, accounted):
    (root / "large").write_bytes(large)
    server = serve()
    transfer = get(server, b"GET /large digest=sha256")
    os.kill(transfer.pid, signal.SIGKILL)
    content, trailer = transfer.rest()
    assert len(content) < len(large)
    assert large.startswith(content)
    assert trailer == b""
    accounted(server, 1, died=1)


def test_a_child_that_is_killed_is_found_among_many_while_others_end(serve, fetchers):
    server = serve("--max-children", "200", "--max-per-peer", "200")
    connections = [server.connect() for _ in range(100)]
    try:
        for connection in connections:
            connection.sendall(b"PING\n")
            assert connection.recv(1000)
        waiting = server.children()
        clients = fetchers(server, 4)
        clients.wait_for(10)
        victims = random.sample(waiting, 10)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
            assert f" died pid={victim} cause=SIGKILL " in server.wait_for(f" died pid={victim} ")
        clients.stop()
        assert clients.wrong == []
        assert clients.unanswered == 0
    finally:
        for connection in connections:
            connection.close()
    server.quiet()
