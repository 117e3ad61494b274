"""The lab exercise's client, which has no framing, against ``forkserver serve --bare``."""

from __future__ import annotations

import hashlib
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

CLIENT = Path(__file__).with_name("exercise_client.py")
CLIENTS = 8
ROUNDS = 13  # of each client: more than 100 together
SIZES = {"one": 1, "one recv": 1024, "ten MiB": 10 << 20}
PATIENCE_S = 50


@pytest.fixture
def digests(root):
    """SHA-256 of each file that is to be downloaded, and ``missing`` for one that is not there."""
    generator = random.Random(100)
    found = {}
    for name, size_bytes in SIZES.items():
        content = generator.randbytes(size_bytes)
        (root / name).write_bytes(content)
        found[name] = hashlib.sha256(content).hexdigest()
    return found | {"nofile.pdf": "missing"}


def start_client(server, place: Path) -> subprocess.Popen[bytes]:
    place.mkdir()
    command = [sys.executable, str(CLIENT), server.host, str(server.port)]
    pipe = subprocess.PIPE
    client = subprocess.Popen(command, cwd=place, stdin=pipe, stdout=pipe, stderr=pipe)
    if not os.geteuid():
        # It must read within 0.1 s what the server sends apart, also where other tests have the processors.
        os.setpriority(os.PRIO_PROCESS, client.pid, -10)
    return client


def test_the_exercises_client_downloads_a_hundred_times_over_eight_at_a_time(serve, digests, tmp_path):
    server = serve("--bare")
    clients = [start_client(server, tmp_path / str(number)) for number in range(CLIENTS)]
    names = list(digests) * ROUNDS
    try:
        for client in clients:
            assert client.stdin
            client.stdin.write("".join(f"{name}\n" for name in names).encode())
            client.stdin.close()
            client.stdin = None
        outputs = [client.communicate(timeout=PATIENCE_S) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()
    assert [(client.returncode, errors) for client, (_, errors) in zip(clients, outputs, strict=True)] == [
        (0, b"")
    ] * CLIENTS
    server.quiet()
    # Each leaves with a connection on which it has not asked for anything.
    server.wait_until(lambda: len(server.log(" end ")) >= CLIENTS * (len(names) + 1), "a line for every connection")
    served = {
        (port, pid) for line in server.log(" end ") for pid, port in re.findall(r" pid=(\d+) .* peer=\S+:(\d+) ", line)
    }
    for output, _ in outputs:
        downloads = [line.split() for line in output.decode().splitlines()]
        assert [outcome for _, _, outcome in downloads] == [digests[name] for name in names]
        assert {(port, pid) for port, pid, _ in downloads} <= served, "the id is the PID of who served this very peer"
    assert len(server.log(" status=200 outcome=ok ")) == CLIENTS * ROUNDS * len(SIZES)
    assert len(server.log(" status=404 ")) == CLIENTS * ROUNDS
    assert len(server.log(" outcome=no-request ")) == CLIENTS
    assert len(server.log(" end ")) == CLIENTS * (len(names) + 1)


@pytest.mark.usefixtures("digests")
def test_fsget_is_understood_by_a_server_that_speaks_the_bare_dialect_too(serve, root, place, fsget):
    server = serve("--bare")
    result = fsget(server, "ten MiB", "one", "nofile.pdf")
    assert result.status == 3
    assert (place / "ten MiB").read_bytes() == (root / "ten MiB").read_bytes()
    assert (place / "one").read_bytes() == (root / "one").read_bytes()
    assert not (place / "nofile.pdf").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../outside", "fifo", "link", ".hidden", "sub", "n" * 1000])
def test_every_refusal_is_a_missing_file_to_the_exercises_client(bare_server, tmp_path, name):
    client = start_client(bare_server, tmp_path / "client")
    output, errors = client.communicate(f"{name}\n".encode(), timeout=PATIENCE_S)
    assert (errors, output.split()[2:]) == (b"", [b"missing"])


@pytest.fixture(scope="module")
def bare_server(tmp_path_factory, serve_in):
    root = tmp_path_factory.mktemp("bare")
    (root / "sub").mkdir()
    (root / ".hidden").write_text("x")
    (root / "link").symlink_to("/etc/passwd")
    subprocess.run(["mkfifo", str(root / "fifo")], check=True)
    with serve_in(root) as start:
        yield start("--bare")


def test_a_bare_name_is_an_error_and_no_hang_where_the_dialect_is_off(serve, configuration):
    server = serve(*configuration("request_s = 0.3"))
    with server.connect() as connection:
        connection.sendall(b"hello.txt")
        assert connection.recv(1024).startswith(b"FS1 408 too-slow ")
        assert connection.recv(1024) == b""
    server.quiet()


def test_a_bare_name_with_a_line_feed_is_a_bad_request_where_the_dialect_is_off(serve):
    with serve().connect() as connection:
        connection.sendall(b"hello.txt\n")
        assert connection.recv(1024).startswith(b"FS1 400 bad-request ")
        assert connection.recv(1024) == b""
