"""Two real servers: one dies in mid-transfer, or both send parts of one file."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal

import pytest

SIZE = 64 << 20


@pytest.fixture
def two(tmp_path, serve_in):
    """Servers of two directories with the same file."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    content = os.urandom(SIZE)
    (tmp_path / "a" / "f").write_bytes(content)
    shutil.copy2(tmp_path / "a" / "f", tmp_path / "b" / "f")
    with serve_in(tmp_path / "a") as first, serve_in(tmp_path / "b") as second:
        yield first(), second(), hashlib.sha256(content).hexdigest()


def name_of(server) -> str:
    return f"{server.host}:{server.port}"


@pytest.mark.parametrize("connections", ["1", "4"])
def test_a_server_that_is_killed_in_mid_transfer_costs_nothing_but_time(two, begin, relay, place, connections):
    first, second, digest = two
    held = relay(first, 10 << 20)
    run = begin(held, "-s", name_of(second), "-j", connections, "--json", "f")
    first.wait_until(lambda: held.heads, "a transfer in progress")
    family = [first.process.pid, first.master_pid, *first.children()]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    held.stop()
    result = run.result()
    assert (result.status, result.err) == (0, "")
    assert result.objects[0]["digest"] == f"sha256:{digest}"
    assert hashlib.sha256((place / "f").read_bytes()).hexdigest() == digest
    assert os.listdir(place) == ["f"]
    assert name_of(second) in str(result.objects[0]["servers"])


def test_segments_come_from_both_servers_and_make_one_file(two, fsget, place):
    first, second, digest = two
    result = fsget(first, "-s", name_of(second), "-j", "4", "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert hashlib.sha256((place / "f").read_bytes()).hexdigest() == digest
    told = result.objects[0]
    assert told["received"] == SIZE
    assert set(told["servers"]) == {name_of(first), name_of(second)}
    assert len(set(told["pids"])) >= 2


def test_segments_of_one_server_come_from_several_children(two, fsget, place):
    first, _, digest = two
    result = fsget(first, "-j", "4", "--json", "f")
    assert (result.status, result.err) == (0, "")
    assert hashlib.sha256((place / "f").read_bytes()).hexdigest() == digest
    assert result.objects[0]["received"] == SIZE


def test_two_servers_that_differ_give_the_file_of_one_of_them(two, fsget, place):
    first, second, _ = two
    with (second.root / "f").open("r+b") as file:
        file.seek(SIZE // 2)
        file.write(bytes(SIZE // 2))
    result = fsget(first, "-s", name_of(second), "-j", "2", "f")
    assert (result.status, result.err) == (0, "")
    content = (place / "f").read_bytes()
    assert content in ((first.root / "f").read_bytes(), (second.root / "f").read_bytes())


def test_a_tree_goes_on_from_the_other_server(two, begin, relay, place):
    first, second, _ = two
    for server in (first, second):
        (server.root / "tree").mkdir()
        for number in range(300):
            (server.root / "tree" / str(number)).write_bytes(b"%d" % number * 20_000)
    held = relay(first, 4 << 20)
    run = begin(held, "-s", name_of(second), "-r", "tree")
    first.wait_until(lambda: held.heads, "a transfer in progress")
    for pid in (first.process.pid, first.master_pid, *first.children()):
        os.kill(pid, signal.SIGKILL)
    held.stop()
    result = run.result()
    assert (result.status, result.err) == (0, "")
    for number in range(300):
        assert (place / "tree" / str(number)).read_bytes() == b"%d" % number * 20_000
