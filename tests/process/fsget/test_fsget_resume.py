"""Files of several pieces: what was fetched need not come again, in this run and in the next."""

from __future__ import annotations

import os
import signal
import time

import pytest

from forkserver.client.local.partial import PIECE_BYTES

SIZE = 2 * PIECE_BYTES + 1000
CONTENT = os.urandom(SIZE)
STARTS = range(0, SIZE, PIECE_BYTES)
LOST = b"FS1 412 changed pid=4711 start=1763860000.123456 type=file size=9 mtime=1.000000000 mode=644 etag=e-2\n"
UNCHANGED = b"FS1 304 unchanged %s type=file size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"


def piece(says, start: int, etag: str = "e-1") -> bytes:
    part = CONTENT[start : start + PIECE_BYTES]
    return says.header(SIZE, offset=start, etag=etag) + part + says.end(part)


def stat(says, etag: str = "e-1") -> bytes:
    line = says.header(SIZE, etag=etag)
    return line[: line.index(b" offset=")] + b"\n"


def get(offset: int, length: int = PIECE_BYTES, etag: str = "e-1") -> bytes:
    skip = b"offset=%d " % offset if offset else b""
    return b"GET /f %slength=%d digest=sha256 if-etag=%s\n" % (skip, length, etag.encode())


FIRST = b"GET /f length=%d digest=sha256\n" % PIECE_BYTES
THIRD = get(2 * PIECE_BYTES, 1000)


@pytest.fixture
def left(fsget, lying_server, says, place):
    """A run whose connection was lost after the first piece, and not made again."""
    # To close without having read what was asked ahead would be a reset, and may take along what was sent.
    server = lying_server([says.ask, piece(says, 0), says.ask])
    result = fsget("-s", server.address, "--retries", "0", "f")
    assert result.status == 5
    assert sorted(os.listdir(place)) == [".fsget-f.part", ".fsget-f.sums"]
    return server.address


def again(lying_server, address: str, *scripts):
    """A server where the one before it was."""
    return lying_server(*scripts, port=int(address.rpartition(":")[2]))


def test_a_file_of_several_pieces_is_asked_for_ahead_and_arrives_whole(fsget, lying_server, says, place):
    server = lying_server(
        [says.ask, piece(says, 0), says.ask, piece(says, STARTS[1]), says.ask, piece(says, STARTS[2])]
    )
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert os.listdir(place) == ["f"]
    assert server.requests == [FIRST, get(PIECE_BYTES), THIRD]


def test_after_a_lost_connection_only_what_is_missing_is_asked_for(fsget, lying_server, says, place):
    server = lying_server(
        [says.ask, piece(says, 0), says.ask, piece(says, PIECE_BYTES)[:-5000]],
        [says.ask, says.ask, piece(says, STARTS[1])[:2000], says.reset],
        [says.ask, says.ask, piece(says, STARTS[1]) + piece(says, STARTS[2])],
    )
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert server.requests == [FIRST, get(PIECE_BYTES), *[get(PIECE_BYTES), THIRD] * 2]


def test_a_small_file_whose_connection_is_lost_is_fetched_again(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.header(5) + b"he"], says.file(b"hello"))
    assert fsget("-s", server.address, "f").status == 0
    assert (place / "f").read_bytes() == b"hello"


def test_a_server_that_is_being_stopped_is_asked_again(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.header(500) + b"heFS1 END draining sent=2\n"], says.file(b"hello"))
    # What the second connection serves is not what the first one began with.
    result = fsget("-s", server.address, "f")
    assert result.status == 6
    server = lying_server([says.ask, says.header(5) + b"heFS1 END draining sent=2\n"], says.file(b"hello"))
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"hello"


def test_standard_output_gets_each_byte_once_although_the_connection_was_lost(fsget, lying_server, says):
    server = lying_server(
        [says.ask, piece(says, 0), says.ask, piece(says, PIECE_BYTES)[:-5000]],
        [says.ask, says.ask, piece(says, STARTS[1]) + piece(says, STARTS[2])],
    )
    result = fsget("-s", server.address, "-o", "-", "f")
    assert (result.status, result.output == CONTENT) == (0, True)


def test_a_server_that_loses_every_connection_ends_after_the_retries_and_keeps_what_came(
    fsget, lying_server, says, place
):
    lost = [says.ask, says.ask, piece(says, STARTS[1])[:2000]]
    server = lying_server([says.ask, piece(says, 0), says.ask], lost, lost)
    result = fsget("-s", server.address, "--retries", "2", "f")
    assert result.status == 5
    assert server.requests == [FIRST, get(PIECE_BYTES), *[get(PIECE_BYTES), THIRD] * 2]
    assert "4,194,304 bytes of it are kept, and the same command goes on from there" in result.err
    assert sorted(os.listdir(place)) == [".fsget-f.part", ".fsget-f.sums"]


def test_the_next_run_asks_whether_the_file_is_the_same_and_fetches_the_rest(fsget, lying_server, says, place, left):
    server = again(
        lying_server, left, [says.ask, stat(says), says.ask, says.ask, piece(says, STARTS[1]) + piece(says, STARTS[2])]
    )
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert "4,194,304 of them here before" in result.out
    assert (place / "f").read_bytes() == CONTENT
    assert server.requests == [b"STAT /f\n", get(PIECE_BYTES), THIRD]
    assert os.listdir(place) == ["f"]


def test_a_file_of_another_size_by_now_is_begun_anew_and_the_user_is_told(fsget, lying_server, says, place, left):
    shorter = CONTENT[: PIECE_BYTES + 1]
    described = stat(says, "e-2").replace(b"size=%d" % SIZE, b"size=%d" % len(shorter))
    first, second = (
        says.header(len(shorter), offset=start, etag="e-2") + part + says.end(part)
        for start, part in ((0, shorter[:PIECE_BYTES]), (PIECE_BYTES, shorter[PIECE_BYTES:]))
    )
    server = again(lying_server, left, [says.ask, described, says.ask, says.ask, first, second])
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert "begun anew, the file on the server has changed" in result.out
    assert (place / "f").read_bytes() == shorter
    assert server.requests[1] == get(0, etag="e-2")


def test_a_file_of_another_size_between_two_pieces_is_a_failure(fsget, lying_server, says, place):
    described = stat(says, "e-2").replace(b"size=%d" % SIZE, b"size=9")
    server = lying_server([says.ask, piece(says, 0), says.ask, LOST, says.hold], [says.ask, described, says.hold])
    result = fsget("-s", server.address, "f")
    assert result.status == 6
    assert "the file was modified or replaced while it was being fetched" in result.err
    assert not (place / "f").exists()


def test_a_piece_that_was_not_asked_for_breaks_the_protocol(fsget, lying_server, says, place):
    server = lying_server([says.ask, piece(says, 0), says.ask, piece(says, STARTS[2]), says.hold])
    result = fsget("-s", server.address, "f")
    assert result.status == 6
    assert "another part of the file was promised than was asked for" in result.err
    assert not (place / "f").exists()


def wait_for_a_piece(place) -> None:
    deadline = time.monotonic() + 20
    sums = place / ".fsget-f.sums"
    while not (sums.exists() and b"\n0 " in sums.read_bytes()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_interrupted_run_says_how_to_go_on(begin, lying_server, says, place):
    server = lying_server([says.ask, piece(says, 0), says.hold])
    process = begin("-s", server.address, "f", stderr=-1)
    wait_for_a_piece(place)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == -signal.SIGINT
    assert err == (b"fsget: f: interrupted; 4,194,304 bytes of it are kept, and the same command goes on from there\n")


@pytest.mark.usefixtures("attributes")
def test_what_is_here_and_unchanged_is_not_fetched_again(fsget, lying_server, says):
    server = lying_server(says.file(b"x"), [says.ask, UNCHANGED % says.who])
    assert fsget("-s", server.address, "f").status == 0
    result = fsget("-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert result.out == "f: 1 byte, unchanged, nothing fetched (asked PID 4711)\n"
    assert server.requests[1].endswith(b" unless-etag=e-1\n")


@pytest.mark.usefixtures("attributes")
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda file: file.write_bytes(b"yy"), id="written"),
        pytest.param(lambda file: os.utime(file, ns=(1, 1)), id="touched"),
        pytest.param(os.unlink, id="removed"),
    ],
)
def test_what_somebody_has_changed_here_is_fetched_again(fsget, lying_server, says, place, change):
    server = lying_server(says.file(b"x"), says.file(b"x"))
    assert fsget("-s", server.address, "f").status == 0
    change(place / "f")
    assert fsget("-s", server.address, "f").status == 0
    assert (place / "f").read_bytes() == b"x"
    assert b"unless-etag" not in server.requests[1]


def test_two_runs_do_not_fetch_one_file_at_the_same_time(fsget, begin, lying_server, says, place):
    server = lying_server([says.ask, piece(says, 0), says.hold])
    process = begin("-s", server.address, "f")
    wait_for_a_piece(place)
    other = lying_server([says.ask, piece(says, 0), says.hold])
    result = fsget("-s", other.address, "f")
    assert result.status == 7
    assert result.err.endswith("f: another fsget is fetching it\n")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == -signal.SIGTERM


def test_bytes_behind_the_end_of_a_part_do_not_become_the_file(fsget, lying_server, says, place, left):
    with open(place / ".fsget-f.part", "r+b") as part:
        part.seek(SIZE + 1000)
        part.write(b"EVIL TAIL")
    again(
        lying_server, left, [says.ask, stat(says), says.ask, piece(says, STARTS[1]), says.ask, piece(says, STARTS[2])]
    )
    assert fsget("-s", left, "f").status == 0
    assert (place / "f").read_bytes() == CONTENT


def test_a_part_of_a_file_that_is_short_by_now_does_not_stay(fsget, lying_server, says, place, left):
    again(lying_server, left, [says.ask, stat(says).replace(b"size=%d" % SIZE, b"size=1"), *says.file(b"x")])
    assert fsget("-s", left, "f").status == 0
    assert os.listdir(place) == ["f"]


def test_a_fifo_in_place_of_the_list_is_not_waited_for(fsget, lying_server, says, place):
    os.mkfifo(place / ".fsget-f.sums")
    server = lying_server([says.ask, piece(says, 0), *[says.ask] * 2, says.hold])
    result = fsget("-s", server.address, "--timeout", "2", "--retries", "0", "f", timeout=20)
    assert result.status != 0
