"""Several servers that have the same files, or say so: one file of one version comes of it, or none."""

from __future__ import annotations

import hashlib
import os
import socket
import time

import pytest

from forkserver.client.local.partial import PIECE_BYTES

CONTENT = os.urandom(2 * PIECE_BYTES + 1000)
OTHER = os.urandom(len(CONTENT))
STARTS = range(0, len(CONTENT), PIECE_BYTES)
SIZE = len(CONTENT)


def part(start: int, content: bytes = CONTENT) -> bytes:
    return content[start : start + PIECE_BYTES]


def piece(says, start: int, etag: str = "e-1", content: bytes = CONTENT) -> bytes:
    return says.header(SIZE, offset=start, etag=etag) + part(start, content) + says.end(part(start, content))


def stat(says, etag: str, size: int = SIZE) -> bytes:
    line = says.header(size, etag=etag)
    return line[: line.index(b" offset=")] + b"\n"


def digest(says, start: int, etag: str, content: bytes = CONTENT) -> bytes:
    line = says.header(SIZE, offset=start, etag=etag)[:-1]
    return line + b" digest=sha256:" + hashlib.sha256(part(start, content)).hexdigest().encode() + b"\n"


# Requests for pieces were on their way when the first server died. They go to the other, too: it has another etag.
LOST = [
    "read one request line",
    b"FS1 412 changed pid=4711 start=1763860000.123456 type=file size=9 mtime=1.000000000 mode=644 etag=e-2\n",
]


def asked(start: int, etag: str) -> bytes:
    skip = b"offset=%d " % start if start else b""
    length = min(PIECE_BYTES, SIZE - start)
    return b"STAT /f %slength=%d digest=sha256 if-etag=%s\n" % (skip, length, etag.encode())


@pytest.fixture
def nowhere():
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"127.0.0.1:{port}"


@pytest.fixture
def dying(lying_server, says):
    """A server that dies after the first piece."""
    return lying_server([says.ask, piece(says, 0), says.ask])


def test_where_the_first_server_is_not_there_the_next_is_asked(fsget, lying_server, says, nowhere, place):
    server = lying_server(says.file(b"x"))
    result = fsget("--retries", "0", "-s", nowhere, "-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"x"


def test_where_no_server_is_there_all_are_named(fsget, nowhere):
    result = fsget("--retries", "0", "-s", nowhere, "-s", "localhost:1", "f")
    assert result.status == 5
    assert nowhere in result.err
    assert "localhost:1 refused the connection" in result.err


def test_where_the_first_server_is_busy_the_next_is_asked_at_once(fsget, lying_server, says, place):
    busy, server = lying_server([says.busy]), lying_server(says.file(b"x"))
    result = fsget("--retries", "0", "-s", busy.address, "-s", server.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == b"x"


def test_another_server_goes_on_with_the_file_and_vouches_for_what_came_before(fsget, lying_server, says, place, dying):
    rest = [piece(says, start, "e-2") for start in STARTS[1:]]
    other = lying_server(
        LOST, [says.ask, stat(says, "e-2"), says.ask, says.ask, *rest, says.ask, digest(says, 0, "e-2")]
    )
    result = fsget("--retries", "0", "-s", dying.address, "-s", other.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
    assert other.requests[1] == b"STAT /f\n"
    assert other.requests[-1] == asked(0, "e-2")
    assert f"served by PIDs 4711 of {dying.address}, 4711 of {other.address}" in result.out
    assert os.listdir(place) == ["f"]


def test_what_another_server_does_not_vouch_for_is_fetched_from_it(fsget, lying_server, says, place, dying):
    rest = [piece(says, start, "e-2", OTHER) for start in STARTS[1:]]
    other = lying_server(
        LOST,
        [
            *[says.ask, stat(says, "e-2"), says.ask, says.ask, *rest],
            *[says.ask, digest(says, 0, "e-2", OTHER)],
            *[says.ask, piece(says, 0, "e-2", OTHER)],
        ],
    )
    result = fsget("--retries", "0", "-s", dying.address, "-s", other.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == OTHER


def test_a_server_with_a_file_of_another_size_is_no_help(fsget, lying_server, says, place, dying):
    other = lying_server(LOST, [says.ask, stat(says, "e-2", 5), says.hold])
    result = fsget("--retries", "0", "-s", dying.address, "-s", other.address, "f")
    assert result.status in (5, 6)
    assert not (place / "f").exists()
    assert ".fsget-f.part" in os.listdir(place), "the first may come back"


def test_a_server_that_lies_about_a_digest_gets_no_file_through(fsget, lying_server, says, place, dying):
    rest = [piece(says, start, "e-2") for start in STARTS[1:]]
    silent = says.header(SIZE, etag="e-2")
    other = lying_server(LOST, [says.ask, stat(says, "e-2"), says.ask, says.ask, *rest, says.ask, silent, says.hold])
    result = fsget("--retries", "0", "-s", dying.address, "-s", other.address, "f")
    assert result.status == 6
    assert "a digest was asked for, and none came" in result.err
    assert not (place / "f").exists()


def test_the_next_run_can_go_on_from_another_server(fsget, lying_server, says, place, dying):
    assert fsget("--retries", "0", "-s", dying.address, "f").status == 5
    rest = [piece(says, start, "e-2") for start in STARTS[1:]]
    other = lying_server([says.ask, stat(says, "e-2"), says.ask, says.ask, *rest, says.ask, digest(says, 0, "e-2")])
    result = fsget("-s", other.address, "f")
    assert (result.status, result.err) == (0, "")
    assert "4,194,304 of them here before" in result.out
    assert (place / "f").read_bytes() == CONTENT


def test_standard_output_tells_that_two_servers_had_different_contents(fsget, lying_server, says, dying):
    rest = [piece(says, start, "e-2", OTHER) for start in STARTS[1:]]
    other = lying_server(
        LOST, [says.ask, stat(says, "e-2"), says.ask, says.ask, *rest, says.ask, digest(says, 0, "e-2", OTHER)]
    )
    result = fsget("--retries", "0", "-s", dying.address, "-s", other.address, "-o", "-", "f")
    assert result.status == 6
    assert "the servers have different contents" in result.err
    assert result.output.startswith(part(0))


def test_a_server_given_twice_is_one(fsget, lying_server, says):
    server = lying_server([says.busy])
    assert fsget("--retries", "0", "-s", server.address, "-s", server.address, "f").status == 4


def test_several_servers_can_stand_in_the_environment(fsget, lying_server, says, nowhere, environment):
    server = lying_server(says.file(b"x"))
    result = fsget("f", env=environment | {"FSGET_SERVER": f"{nowhere} {server.address}"})
    assert (result.status, result.err) == (0, "")


@pytest.mark.parametrize("options", [("--max-children", "1", "--max-per-peer", "5"), ("--max-per-peer", "1")])
def test_connections_that_a_server_has_no_child_for_are_not_waited_for(fsget, serve, root, place, options):
    (root / "f").write_bytes(CONTENT)
    for number in range(300):
        (root / "tree").mkdir(exist_ok=True)
        (root / "tree" / str(number)).write_bytes(b"%d" % number)
    server = serve(*options)
    started = time.monotonic()
    result = fsget("-s", f"{server.host}:{server.port}", "-j", "4", "f")
    assert (result.status, result.err) == (0, "")
    assert fsget("-s", f"{server.host}:{server.port}", "-j", "4", "-r", "tree").status == 0
    # It waits 60 s for each of them.
    assert time.monotonic() - started < 20
    assert (place / "f").read_bytes() == CONTENT
    assert len(list((place / "tree").iterdir())) == 300


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(["wait until the client hangs up"], id="silent"),
        pytest.param(["read one request line", b"HTTP/1.1 400 Bad Request\r\n\r\n"], id="no forkserver"),
    ],
)
def test_a_server_that_does_not_answer_is_passed_over(fsget, lying_server, serve, place, silent):
    second = serve()
    for names in (["hello.txt"], ["-r", "hello.txt"], ["*.txt"]):
        servers = ["-s", lying_server(silent).address, "-s", f"{second.host}:{second.port}"]
        result = fsget("--timeout", "1", "--retries", "0", *servers, *names)
        assert (result.status, result.err) == (0, "")
        assert os.listdir(place) == ["hello.txt"]
        (place / "hello.txt").unlink()


def test_where_no_server_answers_the_last_is_told(fsget, lying_server, says):
    first, second = lying_server([says.hold]), lying_server([says.hold])
    result = fsget("--timeout", "0.3", "-s", first.address, "-s", second.address, "f")
    assert result.status == 5
    assert f"{second.address} sent nothing for 0.3 s" in result.err


def test_servers_that_never_agree_and_never_send_all_end_the_run(fsget, lying_server, says, place):
    one = [says.ask, piece(says, 0), says.ask, says.ask]
    one_again = [says.ask, stat(says, "e-1"), says.ask, says.ask, piece(says, STARTS[1]), says.ask]
    other = [says.ask, stat(says, "e-2"), says.ask, says.ask, piece(says, STARTS[1], "e-2", OTHER)]
    first, second = lying_server(one, *[one_again] * 50), lying_server(*[other] * 50)
    result = fsget("-s", first.address, "-s", second.address, "--retries", "2", "--timeout", "2", "f", timeout=50)
    assert result.status != 0
    assert "f" not in os.listdir(place)


def test_a_server_that_does_not_have_the_file_is_asked_no_more(fsget, lying_server, says, place):
    rest = [says.ask, stat(says, "e-1"), says.ask, says.ask, piece(says, STARTS[1]), piece(says, STARTS[2])]
    first = lying_server([says.ask, piece(says, 0), says.ask], [says.ask], rest)
    second = lying_server(LOST, [says.ask, says.not_found])
    result = fsget("-s", first.address, "-s", second.address, "f")
    assert (result.status, result.err) == (0, "")
    assert (place / "f").read_bytes() == CONTENT
