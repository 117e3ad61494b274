"""``--manifest``: what a run has fetched, as a list that sha256sum(1) itself reads."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess

import pytest

from forkserver.client.local.partial import PIECE_BYTES

NAMES = [b"plain", b"with space", b"back\\slash", b"line\nfeed", b"\xff\x1b", b"-"]
BIG = bytes(PIECE_BYTES + 1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def big_file(says) -> list[bytes | str]:
    """The steps that serve a file of two pieces."""
    first, second = BIG[:PIECE_BYTES], BIG[PIECE_BYTES:]
    steps = [says.ask, says.header(len(BIG)) + first + says.end(first)]
    return [*steps, says.ask, says.header(len(BIG), offset=PIECE_BYTES) + second + says.end(second)]


def test_sha256sum_finds_all_that_was_fetched_right(fsget, lying_server, says, place, sha256sum):
    (place / "out").mkdir()
    server = lying_server([step for name in NAMES for step in says.file(name)])
    result = fsget("-s", server.address, "-d", "out", "--manifest", "SUMS", "--", *NAMES)
    assert (result.status, result.err) == (0, "")
    checked = sha256sum(place / "out", "--check", "--strict", "../SUMS")
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, len(NAMES))
    assert sorted(os.listdir(place)) == ["SUMS", "out"]


def test_a_file_of_several_pieces_and_one_with_another_name_are_in_it(fsget, lying_server, says, place, sha256sum):
    server = lying_server(big_file(says), says.file(b"x"))
    assert fsget("-s", server.address, "--manifest", "A", "f").status == 0
    (place / "sub").mkdir()
    assert fsget("-s", server.address, "--manifest", "B", "-o", "sub/mine", "theirs").status == 0
    assert (place / "A").read_text() == f"{sha256(BIG)}  f\n"
    assert (place / "B").read_text() == f"{sha256(b'x')}  sub/mine\n"
    assert sha256sum(place, "--check", "A", "B").returncode == 0


@pytest.mark.usefixtures("attributes")
def test_a_file_that_was_here_unchanged_is_in_it(fsget, lying_server, says, place):
    header = says.header(1)
    described = header[: header.index(b" offset=")] + b"\n"
    digested = header[:-1] + b" digest=sha256:" + sha256(b"x").encode() + b"\n"
    server = lying_server(says.file(b"x"), [says.ask, described, says.ask, digested])
    assert fsget("-s", server.address, "f").status == 0
    assert "unchanged" in fsget("-s", server.address, "--manifest", "SUMS", "f").out
    assert (place / "SUMS").read_text() == f"{sha256(b'x')}  f\n"


def test_what_could_not_be_fetched_is_not_in_it_and_the_exit_status_tells(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.not_found, *says.file(b"x")])
    assert fsget("-s", server.address, "--manifest", "SUMS", "a", "b").status == 3
    assert (place / "SUMS").read_text() == f"{sha256(b'x')}  b\n"


def test_it_replaces_an_older_one(fsget, lying_server, says, place):
    (place / "SUMS").write_text("older")
    server = lying_server(says.file(b"x"))
    assert fsget("-s", server.address, "--manifest", "SUMS", "f").status == 0
    assert (place / "SUMS").read_text() == f"{sha256(b'x')}  f\n"


def test_a_run_that_is_interrupted_leaves_the_older_one(begin, lying_server, says, place):
    (place / "SUMS").write_text("older")
    server = lying_server([*says.file(b"x"), says.ask, says.header(9) + b"four", says.hold])
    process = begin("-s", server.address, "--manifest", "SUMS", "a", "b", stdout=subprocess.PIPE)
    assert process.stdout.readline().startswith(b"a: ")
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert (place / "SUMS").read_text() == "older"
    assert sorted(os.listdir(place)) == ["SUMS", "a"]


def test_on_standard_output_it_stands_alone(fsget, lying_server, says, place, sha256sum):
    server = lying_server([*says.file(b"x"), *says.file(b"y")])
    result = fsget("-s", server.address, "--json", "--manifest", "-", "a", "b")
    assert (result.status, result.err.count('"status": "ok"')) == (0, 2)
    assert sha256sum(place, "--check", "--strict", input=result.out).returncode == 0


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing/SUMS", "no such directory"),
        ("sub", "is a directory, and is left as it is"),
        ("sub/", "is a directory, and is left as it is"),
        ("fifo", "is not a regular file, and is left as it is"),
    ],
)
def test_a_place_where_no_list_can_be_is_told_before_anything_is_fetched(fsget, place, path, reason):
    (place / "sub").mkdir()
    os.mkfifo(place / "fifo")
    result = fsget("-s", "127.0.0.1:1", "--manifest", path, "f")
    assert (result.status, result.err) == (7, f"fsget: local file {path}: {reason}\n")
    assert sorted(os.listdir(place)) == ["fifo", "sub"]


def test_a_file_that_was_fetched_is_not_replaced_by_the_list(fsget, lying_server, says, place):
    server = lying_server(says.file(b"x"))
    result = fsget("-s", server.address, "-d", str(place), "--manifest", "./f", "f")
    assert (result.status, "local file ./f: is a file that was fetched" in result.err) == (7, True)
    assert (place / "f").read_bytes() == b"x"
    assert os.listdir(place) == ["f"]


def test_a_list_that_does_not_fit_is_a_local_failure_and_not_there(fsget, lying_server, says, place):
    # The limit is 512 bytes, for a list of 670.
    names = "abcdefghij"
    server = lying_server([step for _ in names for step in says.file(b"x")])
    result = fsget("-s", server.address, "-q", "--manifest", "SUMS", *names, first="ulimit -f 1")
    assert (result.status, result.err) == (
        7,
        "fsget: local file SUMS: the file would be larger than is allowed here\n",
    )
    assert sorted(os.listdir(place)) == list(names)
