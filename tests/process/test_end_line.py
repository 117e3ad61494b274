"""The ``end`` line of the log tells what became of a file, also of one that is fetched in pieces."""

from __future__ import annotations

import re
import socket
import struct

import pytest

SIZE = 100
SOME_BYTES = 200_000
PIECE = b"GET /file length=40\n"
RESET = struct.pack("ii", 1, 0)


@pytest.fixture
def server(serve, root, tmp_path):
    (root / "file").write_bytes(bytes(SIZE))
    (tmp_path / "forkserver.toml").write_text("idle_s = 0.2\n")
    return serve("--config", str(tmp_path / "forkserver.toml"))


def told(server, count: int, *names: str) -> list[tuple[str, ...]]:
    """These fields of the ``end`` lines, once there are so many."""
    server.wait_for(" end ", count)
    lines = [dict(re.findall(r" (\w+)=(\S+)", line)) for line in server.log(" end ")]
    return [tuple(line[name] for name in names) for line in lines]


def answered(server, requests: bytes) -> socket.socket:
    """A connection that has the answers to ``requests``, and makes no other."""
    connection = server.connect()
    connection.sendall(requests)
    answer = b""
    while answer.count(b"FS1 END ") < requests.count(b"\n"):
        answer += connection.recv(65536)
    return connection


def test_a_fetch_in_pieces_whose_client_resets_is_not_ok(server):
    with answered(server, PIECE) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    assert told(server, 1, "outcome", "sent", "promised", "size") == [("peer-gone", "40", "40", "100")]


@pytest.mark.parametrize("end", ["closes", "is idle for too long", "asks for something else"])
def test_a_fetch_in_pieces_that_stops_short_of_the_end_of_the_file_is_partial(server, end):
    with answered(server, PIECE + b"GET /file offset=40 length=10\n") as connection:
        if end == "closes":
            connection.close()
        elif end == "asks for something else":
            connection.sendall(b"PING\n")
        # Else it waits, longer than the server does.
        assert told(server, 1, "outcome", "sent", "offset", "size")[0] == ("partial", "50", "0", "100")


def test_a_fetch_in_pieces_that_a_stop_ends_is_draining(serve, root, tmp_path):
    (root / "file").write_bytes(bytes(SIZE))
    (tmp_path / "forkserver.toml").write_text("drain_s = 0.1\n")
    server = serve("--config", str(tmp_path / "forkserver.toml"))
    with answered(server, PIECE):
        assert server.stop() == 0
    assert told(server, 1, "outcome", "sent") == [("draining", "40")]


@pytest.mark.parametrize(
    ("requests", "offset"),
    [
        (b"GET /file\n", "0"),
        (PIECE + b"GET /file offset=40\n", "0"),
        (b"GET /file offset=60\n", "60"),
        (b"GET /file offset=60 length=40\n", "60"),
        (b"GET /file offset=100\n", "100"),
    ],
)
def test_ranges_that_reach_the_end_of_the_file_are_ok(server, requests, offset):
    answered(server, requests).close()
    sent = str(SIZE - int(offset))
    assert told(server, 1, "outcome", "sent", "promised", "offset", "size") == [("ok", sent, sent, offset, "100")]


def test_the_lines_of_ranges_with_a_gap_between_them_add_up_to_what_was_sent(server):
    answered(server, b"GET /file offset=10 length=20\nGET /file offset=50\n").close()
    assert told(server, 2, "outcome", "offset", "sent", "size") == [
        ("partial", "10", "20", "100"),
        ("ok", "50", "50", "100"),
    ]


def test_a_digest_of_a_part_is_complete_in_itself(server):
    server.ask(b"STAT /file digest=sha256 length=40\n")
    assert told(server, 1, "outcome", "offset", "size") == [("ok", "0", "100")]


def test_a_line_without_a_part_of_a_file_has_neither_offset_nor_size(serve, root):
    (root / "file").write_bytes(bytes(SIZE))
    server = serve()
    server.ask(b"PING\nSTAT /file\nLIST /\nGET /none\nGET /file offset=101\nGET /file unless-etag=x\n\n")
    assert told(server, 7, "request", "status", "offset", "size") == [
        ("PING", "200", "-", "-"),
        ("STAT", "200", "-", "-"),
        ("LIST", "200", "-", "-"),
        ("GET", "404", "-", "-"),
        ("GET", "416", "-", "-"),
        ("GET", "200", "0", "100"),
        ("-", "400", "-", "-"),
    ]


@pytest.fixture
def patient(serve, root, tmp_path):
    """A server whose ``/some`` is more than its client below takes in, and less than the kernel takes from a child."""
    (root / "some").write_bytes(bytes(SOME_BYTES))
    (tmp_path / "forkserver.toml").write_text("stall_s = 1.0\nrequest_s = 0.2\ndrain_s = 0.2\n")
    return serve("--config", str(tmp_path / "forkserver.toml"))


@pytest.mark.parametrize("half_close", [False, True], ids=["a client that may ask more", "a client that will not"])
def test_an_answer_whose_last_part_the_peer_does_not_take_is_not_ok(patient, unread, half_close):
    with unread(patient, b"GET /some\n", SOME_BYTES, half_close=half_close) as client:
        assert patient.log(" end ") == [], "who is to take the answer is still there"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sent = str(SOME_BYTES)
    assert told(patient, 1, "outcome", "sent", "promised") == [("peer-gone", sent, sent)]
    assert " cause=peer-gone " in patient.wait_for(" receipt ")


@pytest.mark.parametrize("half_close", [False, True], ids=["a client that may ask more", "a client that will not"])
def test_an_answer_whose_last_part_the_peer_leaves_lying_is_too_slow(patient, unread, half_close):
    with unread(patient, b"GET /some\n", SOME_BYTES, half_close=half_close):
        assert told(patient, 1, "outcome", "sent") == [("peer-too-slow", str(SOME_BYTES))]
        assert " cause=peer-too-slow " in patient.wait_for(" receipt ")


def test_an_answer_that_is_taken_late_is_ok_once_it_is_taken_and_before_the_next_request(patient, unread):
    with unread(patient, b"GET /some\n", SOME_BYTES) as client, client.makefile("rb") as file:
        assert file.readline().startswith(b"FS1 200 ok ")
        assert file.read(SOME_BYTES) == bytes(SOME_BYTES)
        assert file.readline() == b"FS1 END ok\n"
        assert told(patient, 1, "outcome") == [("ok",)]


def test_a_drain_does_not_spoil_an_answer_that_is_taken_late(patient, unread):
    with unread(patient, b"GET /some\n", SOME_BYTES) as client, client.makefile("rb") as file:
        patient.process.terminate()
        patient.wait_for(" drain ")
        assert file.readline().startswith(b"FS1 200 ok ")
        assert file.read(SOME_BYTES) == bytes(SOME_BYTES)
        assert file.readline() == b"FS1 END ok\n"
        assert told(patient, 1, "outcome") == [("ok",)]


@pytest.mark.parametrize("half_close", [False, True], ids=["that does not go on", "that ends"])
def test_a_part_of_a_request_is_no_sign_that_the_answer_before_was_taken(patient, unread, half_close):
    with unread(patient, b"GET /some\n", SOME_BYTES) as client:
        client.sendall(b"G")
        if half_close:
            client.shutdown(socket.SHUT_WR)
        assert told(patient, 1, "request", "outcome", "sent") == [("GET", "peer-too-slow", str(SOME_BYTES))]


@pytest.mark.parametrize("half_close", [False, True], ids=["a client that may ask more", "a client that will not"])
def test_a_stop_does_not_wait_for_an_answer_to_be_taken_and_does_not_say_that_it_was(
    serve, root, tmp_path, unread, half_close
):
    (root / "some").write_bytes(bytes(SOME_BYTES))
    (tmp_path / "forkserver.toml").write_text("drain_s = 0.2\n")
    server = serve("--config", str(tmp_path / "forkserver.toml"))
    with unread(server, b"GET /some\n", SOME_BYTES, half_close=half_close) as client, client.makefile("rb") as file:
        assert server.stop() == 0
        assert told(server, 1, "outcome", "sent") == [("draining", str(SOME_BYTES))]
        # The kernel sends the rest all the same.
        assert file.readline().startswith(b"FS1 200 ok ")
        assert file.read(SOME_BYTES) == bytes(SOME_BYTES)


def test_a_client_of_the_bare_dialect_that_leaves_before_its_answer_is_gone_at_once(serve, root):
    (root / "some").write_bytes(bytes(SOME_BYTES))
    server = serve("--bare")
    with server.connect() as client:
        client.sendall(b"some")
    assert told(server, 1, "request", "outcome") == [("GET", "peer-gone")]
