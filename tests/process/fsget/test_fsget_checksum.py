"""``--checksum``: what the user expects of the one file that is fetched."""

from __future__ import annotations

import hashlib
import os

import pytest

from forkserver.client.content import Version
from forkserver.client.local.partial import PIECE_BYTES, Partial

UNCHANGED = b"FS1 304 unchanged %s type=file size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"
BIG = bytes(PIECE_BYTES + 1)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def big_file(says) -> list[bytes | str]:
    """The steps that serve a file of two pieces."""
    first, second = BIG[:PIECE_BYTES], BIG[PIECE_BYTES:]
    steps = [says.ask, says.header(len(BIG)) + first + says.end(first)]
    return [*steps, says.ask, says.header(len(BIG), offset=PIECE_BYTES) + second + says.end(second)]


@pytest.mark.parametrize("written", ["sha256:{}", "{}"])
def test_a_file_with_the_checksum_expected_is_fetched(fsget, lying_server, says, place, written):
    server = lying_server(says.file(b"x"))
    result = fsget("-s", server.address, "--checksum", written.format(sha256(b"x").upper()), "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"x"


@pytest.mark.parametrize("content", [b"x", b"", pytest.param(BIG, id="big")])
def test_a_file_with_another_is_told_with_both_and_leaves_nothing(fsget, lying_server, says, place, content):
    server = lying_server(big_file(says) if content is BIG else says.file(content))
    wanted = sha256(b"y")
    result = fsget("-s", server.address, "--checksum", wanted, "f")
    assert result.status == 6
    assert f"fsget: f: its sha256 is {sha256(content)}, and not {wanted} as was expected" in result.err
    assert result.out == ""
    assert os.listdir(place) == []


def test_an_older_file_stays_where_the_new_one_is_not_as_expected(fsget, lying_server, says, place):
    (place / "f").write_bytes(b"older")
    server = lying_server(says.file(b"x"))
    assert fsget("-s", server.address, "--checksum", sha256(b"y"), "f").status == 6
    assert (place / "f").read_bytes() == b"older"


def test_standard_output_has_got_the_bytes_and_the_exit_status_tells(fsget, lying_server, says):
    server = lying_server(says.file(b"x"))
    result = fsget("-s", server.address, "-o", "-", "--checksum", sha256(b"y"), "f")
    assert (result.status, result.output) == (6, b"x")
    assert sha256(b"x") in result.err


@pytest.mark.usefixtures("attributes")
def test_a_file_that_is_here_unchanged_is_as_expected_without_being_fetched(fsget, lying_server, says):
    server = lying_server(says.file(b"x"), [says.ask, UNCHANGED % says.who])
    arguments = ("-s", server.address, "--checksum", sha256(b"x"), "f")
    assert fsget(*arguments).status == 0
    assert "unchanged" in fsget(*arguments).out


@pytest.mark.usefixtures("attributes")
def test_a_file_damaged_here_without_a_trace_is_fetched_again(fsget, lying_server, says, place):
    server = lying_server(says.file(b"x"), says.file(b"x"))
    arguments = ("-s", server.address, "--checksum", sha256(b"x"), "f")
    assert fsget(*arguments).status == 0
    before = (place / "f").stat()
    with open(place / "f", "r+b") as file:
        file.write(b"y")
    os.utime(place / "f", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert fsget(*arguments).status == 0
    assert (place / "f").read_bytes() == b"x"
    assert b"unless-etag" not in server.requests[1]


def test_a_file_of_which_all_pieces_are_here_already_needs_only_its_name(fsget, lying_server, says, place):
    header = says.header(len(BIG))
    server = lying_server([says.ask, header[: header.index(b" offset=")] + b"\n"])
    version = Version(len(BIG), "e-1", 1624000000 * 10**9, server.address)
    directory_fd = os.open(place, os.O_RDONLY)
    with Partial(directory_fd, b"f", version) as part:
        os.pwrite(part.fd, BIG, 0)
        part.note(0, sha256(BIG[:PIECE_BYTES]), version)
        part.note(PIECE_BYTES, sha256(BIG[PIECE_BYTES:]), version)
    os.close(directory_fd)
    result = fsget("-s", server.address, "--checksum", sha256(BIG), "f")
    assert (result.status, result.err) == (0, "")
    assert result.out.endswith(", served by PID 4711\n")
    assert os.listdir(place) == ["f"]
