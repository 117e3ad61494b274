"""The log of a real server: a receipt for every child, and the form that its lines have."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import PROGRAM

REPOSITORY = Path(__file__).parents[2]
CONTENT = b"Hello, world\n"


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line))


def identity(answer: bytes) -> tuple[str, str]:
    found = re.search(rb" pid=(\d+) start=([\d.]+) ", answer + b" ")
    assert found
    return found[1].decode(), found[2].decode()


def receipt_of(server, pid: str) -> dict[str, str]:
    return fields(server.wait_for(f" receipt pid={pid} "))


def test_a_child_that_ends_in_order_has_one_receipt_with_the_identity_of_its_replies(serve):
    server = serve()
    with server.connect() as connection:
        peer = "{}:{}".format(*connection.getsockname())
        connection.sendall(b"GET /hello.txt\nSTAT /hello.txt\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    pid, start = identity(answer)
    found = receipt_of(server, pid)
    expected = {
        "cause": "done",
        "start": start,
        "peer": peer,
        "connections": "1",
        "requests": "2",
        "sent": str(len(CONTENT)),
    }
    assert {name: found[name] for name in expected} == expected
    assert int(found["cpu_ms"]) < 10_000
    assert 1000 < int(found["maxrss_kib"]) < 1_000_000
    server.quiet()
    assert len(server.log(f" receipt pid={pid} ")) == 1
    assert not server.log(" died ")


def test_a_receipt_has_the_milliseconds_that_the_child_lived(serve):
    server = serve()
    began = time.monotonic()
    with server.connect() as connection:
        connection.sendall(b"PING\n")
        pid, _ = identity(connection.recv(4096))
        answered = time.monotonic()
        # Not waited for an event, but for time to be measured.
        time.sleep(0.2)
        left = time.monotonic()
    found = receipt_of(server, pid)
    assert (left - answered) * 1000 - 1 <= int(found["wall_ms"]) <= (time.monotonic() - began) * 1000


@pytest.mark.parametrize("cause", ["peer-gone", "peer-too-slow"])
def test_a_receipt_names_how_the_last_connection_ended(serve, root, tmp_path, cause):
    (root / "large").write_bytes(bytes(32 << 20))  # more than fits between a server and a client that does not read
    (tmp_path / "slow.toml").write_text("stall_s = 0.1\n")
    server = serve(*(("--config", str(tmp_path / "slow.toml")) if cause == "peer-too-slow" else ()))
    with server.connect() as connection:
        connection.sendall(b"GET /large\n")
        pid, _ = identity(connection.recv(4096))
        if cause == "peer-gone":
            # Closed with a linger of nothing: a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        found = receipt_of(server, pid)
    assert (found["cause"], found["connections"], found["requests"]) == (cause, "1", "0")
    assert 0 < int(found["sent"]) < 32 << 20


def test_a_child_of_several_connections_has_one_receipt_for_all_of_them_and_its_last_peer(serve):
    server = serve("--spare", "1", "--connections-per-child", "3", "--max-children", "1")
    peers = []
    for _ in range(3):
        with server.connect() as connection:
            peers.append("{}:{}".format(*connection.getsockname()))
            connection.sendall(b"GET /hello.txt\n")
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
    pid, start = identity(answer)
    found = receipt_of(server, pid)
    assert (found["start"], found["peer"]) == (start, peers[-1])
    assert (found["connections"], found["requests"], found["sent"]) == ("3", "3", str(3 * len(CONTENT)))


def test_a_child_that_waited_in_vain_has_served_nobody_when_the_server_stops(serve):
    server = serve("--spare", "2")
    server.wait_until(lambda: len(server.children()) == 2, "two that wait")
    assert server.stop() == 0
    receipts = [fields(line) for line in server.log(" receipt ")]
    assert [(found["cause"], found["peer"], found["connections"]) for found in receipts] == [("retired", "-", "0")] * 2


def test_a_killed_child_has_the_same_account_under_died_and_no_receipt(serve):
    server = serve()
    with server.connect() as connection:
        peer = "{}:{}".format(*connection.getsockname())
        connection.sendall(b"PING\n")
        pid, start = identity(connection.recv(4096))
        server.wait_for(" end ")
        os.kill(int(pid), signal.SIGKILL)
        found = fields(server.wait_for(f" died pid={pid} "))
    expected = {"cause": "SIGKILL", "start": start, "peer": peer, "connections": "1", "requests": "1", "sent": "0"}
    assert {name: found[name] for name in expected} == expected
    assert not server.log(" receipt ")


def test_receipts_can_be_left_out_and_what_died_is_told_all_the_same(serve, tmp_path):
    (tmp_path / "forkserver.toml").write_text("receipts = false\n")
    server = serve("--config", str(tmp_path / "forkserver.toml"))
    server.ask(b"PING\n")
    server.quiet()
    with server.connect() as connection:
        connection.sendall(b"PING\n")
        pid, _ = identity(connection.recv(4096))
        os.kill(int(pid), signal.SIGKILL)
        server.wait_for(f" died pid={pid} cause=SIGKILL ")
    assert not server.log(" receipt ")


@contextlib.contextmanager
def serving(root: Path, *options: str, journal: bool = False):
    """A server whose standard error is a pipe; yields its process and the lines of the pipe as they come."""
    read_fd, write_fd = os.pipe()
    status = os.fstat(write_fd)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    environment["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}" if journal else "1:1"
    command = [sys.executable, *PROGRAM, "serve", "--root", str(root), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=write_fd, env=environment)
    os.close(write_fd)
    try:
        with open(read_fd, encoding="ascii") as lines:
            yield process, lines
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def lines_of_one_request(lines, request: bytes, port_pattern: str) -> list[str]:
    """All lines from the start of the server to the receipt of the child that answered."""
    found = []
    for line in lines:
        found.append(line)
        if "ready" in line and "master_pid" in line:
            port = re.search(port_pattern, line)
            assert port
            with socket.create_connection(("127.0.0.1", int(port[1])), 20) as connection:
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
        if "receipt" in line:
            break
    return found


FORGED = b"GET /%0a<0>bug%20error=x%1b[31m\n"


def test_where_standard_error_is_the_journal_s_every_line_begins_with_its_priority_and_has_no_time(root):
    with serving(root, journal=True) as (_, lines):
        found = lines_of_one_request(lines, FORGED, r"address=127\.0\.0\.1:(\d+)")
    assert [line for line in found if not re.match(r"<[46]>[a-z]+ [a-z_]+=", line)] == []
    verbs = [line[3:].split()[0] for line in found]
    assert set(verbs) - {"warning"} == {"confined", "ready", "end", "receipt"}
    assert " path=/%0A%3C0%3Ebug%20error=x%1B%5B31m " in found[verbs.index("end")]


def test_where_another_stream_is_named_lines_are_plain(root):
    with serving(root) as (_, lines):
        found = lines_of_one_request(lines, FORGED, r"address=127\.0\.0\.1:(\d+)")
    assert [line for line in found if not re.match(r"\d{4}-\S+Z forkserver\[\d+\] [a-z]+ ", line)] == []


def test_json_is_one_object_a_line_of_every_process_and_one_pid_finds_all_of_a_transfer(root):
    with serving(root, "--log-format", "json", journal=True) as (process, lines):
        found = lines_of_one_request(lines, FORGED, r'"address": "127\.0\.0\.1:(\d+)"')
    events = {event["verb"]: event for event in map(json.loads, found)}
    assert set(events) - {"warning"} == {"confined", "ready", "end", "receipt"}
    ready, end, receipt = events["ready"], events["end"], events["receipt"]
    assert ready["writer"] == ready["pid"] == process.pid
    assert receipt["writer"] == events["confined"]["pid"] == ready["master_pid"]
    assert receipt["pid"] == end["pid"] == end["writer"]
    assert receipt["start"] == end["start"]
    assert (end["sent"], end["promised"], receipt["sent"], end["status"]) == (0, 0, 0, 404)
    assert isinstance(end["path"], str)


def test_the_form_of_the_lines_changes_with_a_reload(root, tmp_path):
    path = tmp_path / "forkserver.toml"
    path.write_text('log_format = "plain"\n')
    with serving(root, "--config", str(path)) as (process, lines):
        assert "ready" in next(line for line in lines if "master_pid" in line)
        path.write_text('log_format = "json"\n')
        process.send_signal(signal.SIGHUP)
        ready = json.loads(next(line for line in lines if "master_pid" in line))
        assert (ready["verb"], ready["generation"]) == ("ready", 2)
