"""A child killed in the middle of a transfer: one client is told, the others notice nothing, and the place is free."""

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
def test_a_killed_child_fails_one_client_by_its_pid_and_fifteen_have_their_file(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, tmp_path, begin, fsget, relay, large, options
):
    (root / "large").write_bytes(large)
    # Every place is taken, of the server and of the one peer: a place not given back would show.
    server = serve("--max-children", str(CLIENTS), "--max-per-peer", str(CLIENTS), *options)
    held = relay(server)
    places = [tmp_path / str(number) for number in range(CLIENTS)]
    for place in places:
        place.mkdir()
    runs = [begin(held, "large", place=place) for place in places]
    server.wait_until(lambda: len(held.heads) == CLIENTS, "all transfers in progress")
    victim = random.choice([pid_in(head) for head in held.heads])
    assert victim in server.children()
    os.kill(victim, signal.SIGKILL)
    assert f" died pid={victim} cause=SIGKILL " in server.wait_for(" died pid=")
    held.release()
    results = [run.result() for run in runs]
    failed = [number for number, result in enumerate(results) if result.status]
    assert len(failed) == 1, [result.err for result in results]
    result, place = results[failed[0]], places[failed[0]]
    assert result.status == 5
    assert re.fullmatch(
        rf"fsget: large: the connection was lost after [\d,]+ of {len(large):,} bytes \(served by PID {victim}\)\n",
        result.err,
    )
    assert os.listdir(place) == [], "neither the file nor a temporary one"
    for number, place in enumerate(places):
        if number != failed[0]:
            assert (place / "large").read_bytes() == large
    # As many at once as before: the victim's place, and its peer's, are free again.
    again = relay(server)
    runs = [begin(again, "-o", f"again{number}", "large", place=places[0]) for number in range(CLIENTS)]
    server.wait_until(lambda: len(again.heads) == CLIENTS, "as many transfers at once as before")
    again.release()
    assert [(run.result().status, run.result().err) for run in runs] == [(0, "")] * CLIENTS
    assert fsget(server, "hello.txt").status == 0
    assert not server.log(" refused ")
    assert not server.log(" throttle "), "the victim had served something"
    server.wait_until(lambda: len(server.log(" end ")) == 2 * CLIENTS, "a line for each but the victim's")
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
