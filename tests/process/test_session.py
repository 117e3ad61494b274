"""One connection with a real child: what it is answered, byte by byte, and what the log says of it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from forkserver import __version__


def field(name: bytes, answer: bytes) -> bytes:
    found = re.search(rb" " + name + rb"=(\S+)", answer)
    assert found
    return found[1]


def statuses(answer: bytes) -> list[int]:
    return [int(number) for number in re.findall(rb"^FS1 (\d{3}) ", answer, re.MULTILINE)]


def test_a_file_comes_whole_with_its_digest_and_the_pid_of_a_child_of_the_master(serve):
    server = serve()
    with server.connect() as connection:
        connection.sendall(b"GET /hello.txt digest=sha256\n")
        answer = b""
        while b"FS1 END" not in answer:
            answer += connection.recv(4096)
        head, _, rest = answer.partition(b"\n")
        pid = int(field(b"pid", head))
        assert pid in server.children()
    digest = hashlib.sha256(b"Hello, world\n").hexdigest().encode()
    assert rest == b"Hello, world\nFS1 END ok digest=sha256:" + digest + b"\n"


def test_each_connection_has_a_child_of_its_own(serve):
    server = serve()
    pids = {field(b"pid", server.ask(b"PING\n")) for _ in range(5)}
    assert len(pids) == 5


def test_a_small_file_leaves_in_one_segment_with_its_reply_and_its_trailer(serve, root):
    (root / "small").write_bytes(bytes(16384))
    with serve().connect() as connection:
        connection.sendall(b"GET /small digest=sha256\n")
        answer = connection.recv(1 << 20)
    assert answer.startswith(b"FS1 200 ok ")
    assert b"FS1 END ok digest=sha256:" in answer
    assert answer.endswith(b"\n")


@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm/transparent_hugepage"), reason="no such file here")
@pytest.mark.parametrize("digest", [b"", b" digest=sha256"])
def test_a_small_file_that_is_shorter_than_it_says_is_truncated(serve_in, digest):
    # Its files have 4096 bytes, and a few when they are read.
    with serve_in(Path("/sys/kernel/mm/transparent_hugepage")) as start:
        server = start()
        answer = server.ask(b"GET /enabled%s\nPING\n" % digest)
        line = server.wait_for(" outcome=truncated ").encode()
    head, content, trailer, end = answer.split(b"\n")
    assert field(b"length", head) == b"4096"
    assert trailer == b'FS1 END truncated sent=%d message="the file became shorter while it was being sent"' % (
        len(content) + 1
    )
    assert not end, "no answer can follow: what was promised did not come"
    assert field(b"sent", line) == b"%d" % (len(content) + 1)


def test_parts_that_follow_one_another_are_one_line_of_the_log(serve, root):
    (root / "file").write_bytes(bytes(100))
    server = serve()
    parts = b"GET /file length=40\nGET /file offset=40 length=40\nGET /file offset=80 length=40\n"
    server.ask(parts + b"GET /file offset=10 length=10\nGET /file offset=20 length=5\nGET /file length=9\nPING\n")
    server.wait_for(" request=PING ")
    lines = [line.encode() for line in server.log(" end ")]
    told = [(field(b"sent", line), field(b"promised", line)) for line in lines]
    assert told == [(b"100", b"100"), (b"15", b"15"), (b"9", b"9"), (b"0", b"0")]
    receipt = server.wait_for(" receipt ").encode()
    assert field(b"requests", receipt) == b"7"


def test_a_part_that_cannot_follow_ends_the_line_with_its_reason(serve, root):
    (root / "file").write_bytes(bytes(100))
    server = serve()
    server.ask(b"GET /file length=40\nGET /file offset=40 length=40 if-etag=another\n")
    line = server.wait_for(" end ").encode()
    assert (field(b"status", line), field(b"outcome", line)) == (b"412", b"changed")
    assert (field(b"sent", line), field(b"promised", line)) == (b"40", b"40")


def test_who_fetches_part_by_part_is_not_cut_off_by_a_stop(serve, root):
    (root / "file").write_bytes(bytes(100))
    server = serve()
    with server.connect() as midway, server.connect() as idle:
        for connection, request in ((midway, b"GET /file length=40\n"), (idle, b"GET /file\n")):
            connection.sendall(request)
            while b"FS1 END ok" not in connection.recv(1000):
                pass
        server.process.terminate()
        assert idle.recv(1) == b"", "an idle connection is ended"
        midway.sendall(b"GET /file offset=40\n")
        answer = b"".join(iter(lambda: midway.recv(1000), b""))
    assert answer.endswith(b"FS1 END ok\n")
    assert server.process.wait(20) == 0


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        (b"", b"Hello, world\n"),
        (b" offset=7 length=5", b"world"),
        (b" offset=7 length=99", b"world\n"),
        (b" offset=13", b""),
        (b" length=0", b""),
    ],
)
def test_a_stat_with_a_digest_tells_it_of_the_part_and_sends_nothing(serve, fields, part):
    server = serve()
    answer = server.ask(b"STAT /hello.txt digest=sha256%s\nPING\n" % fields)
    told, ping, end = answer.split(b"\n")
    assert field(b"digest", told) == b"sha256:" + hashlib.sha256(part).hexdigest().encode()
    assert field(b"length", told) == b"%d" % len(part)
    assert field(b"size", told) == b"13"
    assert ping.startswith(b"FS1 200 ok ")
    assert not end


def test_a_stat_for_a_digest_of_more_than_is_allowed_or_of_another_version_is_refused(serve, root):
    with (root / "sparse").open("wb") as file:
        file.truncate((1 << 24) + 1)
    server = serve()
    assert statuses(server.ask(b"STAT /sparse digest=sha256\nPING\n")) == [416, 200]
    assert statuses(server.ask(b"STAT /sparse digest=sha256 length=16777216\n")) == [200]
    assert statuses(server.ask(b"STAT /sparse digest=sha256 offset=16777218\nPING\n")) == [416, 200]
    assert statuses(server.ask(b"STAT /sparse digest=sha256 length=1 if-etag=x\nSTAT /sparse if-etag=x\n")) == [
        412,
        412,
    ]
    assert statuses(server.ask(b"STAT / digest=sha256\nSTAT /missing digest=sha256\n")) == [409, 404]
    etag = field(b"etag", server.ask(b"STAT /sparse\n"))
    assert statuses(server.ask(b"STAT /sparse if-etag=%s\n" % etag)) == [200]


def test_digests_of_parts_that_follow_one_another_are_one_line_of_the_log(serve, root):
    (root / "file").write_bytes(bytes(100))
    server = serve()
    parts = b"STAT /file digest=sha256 length=40\nSTAT /file digest=sha256 offset=40 length=40\n"
    server.ask(parts + b"STAT /file digest=sha256 offset=80 length=40\nPING\n")
    server.wait_for(" request=PING ")
    assert [field(b"request", line.encode()) for line in server.log(" end ")] == [b"STAT", b"PING"]


def test_a_blake2b_digest_is_given_where_one_is_asked_for(serve):
    digest = hashlib.blake2b(b"Hello").hexdigest().encode()
    answer = serve().ask(b"GET /hello.txt length=5 digest=blake2b\n")
    assert answer.endswith(b"\nHelloFS1 END ok digest=blake2b:" + digest + b"\n")


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        (b"offset=7", b"world\n"),
        (b"offset=7 length=5", b"world"),
        (b"offset=13", b""),
        (b"length=0", b""),
        (b"length=9999999999999999999", b"Hello, world\n"),
    ],
)
def test_a_range_is_cut_at_the_end_of_the_file(serve, fields, content):
    answer = serve().ask(b"GET /hello.txt " + fields + b"\n")
    assert answer.partition(b"\n")[2] == content + b"FS1 END ok\n"
    assert f" length={len(content)}\n".encode() in answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /hello.txt offset=14", 416),
        (b"GET /hello.txt offset=9999999999999999999", 416),
        (b"GET /hello.txt offset=-1", 400),
        (b"GET /hello.txt length=-1", 400),
        (b"GET /hello.txt offset=123456789012345678901234567890", 400),
        (b"GET /hello.txt offset=1 offset=2", 400),
        (b"GET /hello.txt digest=md5", 400),
        (b"GET /nofile.pdf", 404),
        (b"GET /hello.txt/x", 404),
        (b"GET /" + b"n" * 300, 404),
        (b"GET /../hello.txt", 403),
        (b"GET /sub/../hello.txt", 403),
        (b"GET /./hello.txt", 403),
        (b"GET //hello.txt", 403),
        (b"GET /sub/", 403),
        (b"GET /%2e%2e/hello.txt", 403),
        (b"GET /hello%00.txt", 403),
        (b"GET /hello%zz", 400),
        (b"GET /hello%", 400),
        (b"GET /out", 403),
        (b"GET /out-dir/passwd", 403),
        (b"GET /absolute", 403),
        (b"GET /loop", 403),
        (b"GET /dangling", 404),
        (b"GET /proc-self-root/etc/passwd", 403),
        (b"GET /fifo", 409),
        (b"GET /socket", 409),
        (b"GET /device", 409),
        (b"GET /sub", 409),
        (b"GET /", 409),
        (b"GET /.secret", 404),
        (b"GET /.dir/x", 404),
        (b"GET /sub/.secret", 404),
        (b"LIST /hello.txt", 405),
        (b"LIST /nowhere", 404),
        (b"LIST /sub recursive=2", 400),
        (b"STAT /fifo", 409),
        (b"STAT /hello.txt", 200),
        (b"STAT /sub", 200),
        (b"GET /inside", 200),
        (b"GET /sub-link/deep.txt", 200),
        (b"", 400),
        (b"GET", 400),
        (b"get /hello.txt", 400),
        (b"GET hello.txt", 400),
        (b"GET  /hello.txt", 400),
        (b"GET /hello.txt ", 400),
        (b"GET /hello.txt\r", 400),
        (b"GET /h\xc3\xa9llo.txt", 400),
        (b"GET /h\xffllo.txt", 400),
        (b"PING /x", 400),
        (b"GET /hello.txt if-etag=", 400),
        (b"GET /hello.txt if-etag=other", 412),
        (b"X" * 8191, 400),
        (b"X" * 8192, 414),
    ],
)
def test_a_bad_request_gets_its_documented_status(tree_server, request_line, status):
    answer = tree_server.ask(request_line + b"\n")
    assert statuses(answer)[:1] == [status]
    assert status == 200 or b'message="' in answer


@pytest.fixture
def bad_tree(root):
    fill(root)
    return root


@pytest.fixture(scope="module")
def tree_server(tmp_path_factory, serve_in):
    """One server for all the tests that only ask."""
    root = tmp_path_factory.mktemp("tree")
    (root / "hello.txt").write_bytes(b"Hello, world\n")
    fill(root)
    with serve_in(root) as start:
        yield start()


def fill(root):
    """Everything a served directory should not hold, and some things it may."""
    (root / "sub").mkdir()
    (root / "sub" / "deep.txt").write_text("deep")
    (root / "sub" / ".secret").write_text("s")
    (root / ".secret").write_text("s")
    (root / ".dir").mkdir()
    (root / ".dir" / "x").write_text("s")
    for name, target in (
        ("out", "/etc/passwd"),
        ("out-dir", "/etc"),
        ("absolute", str(root / "hello.txt")),
        ("loop", "loop"),
        ("dangling", "nowhere"),
        ("proc-self-root", "/proc/self/root"),
        ("inside", "sub/deep.txt"),
        ("sub-link", "sub"),
    ):
        (root / name).symlink_to(target)
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        # A path of its own length limit, 108 bytes: bound from inside the directory.
        here = os.open(".", os.O_RDONLY)
        os.chdir(root)
        listener.bind("socket")
        os.fchdir(here)
        os.close(here)
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o20666, os.makedev(1, 3))
    else:
        os.mkfifo(root / "device")


def test_a_fifo_with_a_waiting_writer_is_refused_and_the_writer_is_not_woken(serve, bad_tree):
    server = serve()
    # A FIFO opened for both ends never blocks (fifo(7)); a reader that came and went would leave POLLHUP behind in no
    # way we could see, so the writer is a blocking one in a process of its own.
    pid = os.fork()
    if not pid:
        os.open(bad_tree / "fifo", os.O_WRONLY)
        os._exit(1)
    try:
        server.wait_until(lambda: b"wait_for_partner" in _wchan(pid) or _sleeps(pid), "a writer that waits")
        assert statuses(server.ask(b"GET /fifo\nSTAT /fifo\nLIST / recursive=1\n"))[:2] == [409, 409]
        assert os.waitpid(pid, os.WNOHANG) == (0, 0), "the writer was woken"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def _wchan(pid: int) -> bytes:
    with open(f"/proc/{pid}/wchan", "rb") as file:
        return file.read()


def _sleeps(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] == b"S"


# What lets root read every file, capabilities(7); setpriv(1) is of util-linux, which no Debian is without.
NO_PRIVILEGE = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--") if os.geteuid() == 0 else ()


def test_a_file_the_server_may_not_read_is_forbidden(serve, root):
    (root / "private").write_text("x")
    (root / "private").chmod(0)
    (root / "closed").mkdir(mode=0)
    answer = serve(prefix=NO_PRIVILEGE).ask(b"GET /private\nSTAT /closed\nLIST / recursive=1\n")
    assert statuses(answer) == [403, 403, 200]
    assert re.search(rb"^dir /closed .* error=forbidden$", answer, re.MULTILINE)


@pytest.mark.usefixtures("bad_tree")
def test_hidden_files_are_served_and_listed_when_the_operator_wants_it(serve):
    answer = serve("--hidden").ask(b"GET /.secret\nLIST / recursive=1\n")
    assert statuses(answer) == [200, 200]
    assert b"\nfile /.dir/x " in answer


def test_a_listing_shows_what_can_be_fetched_and_nothing_else(tree_server):
    answer = tree_server.ask(b"LIST / recursive=1\n")
    lines = answer.decode().splitlines()
    shown = sorted((line.split()[0], line.split()[1]) for line in lines[1:-1])
    assert shown == [
        ("dir", "/sub"),
        ("dir", "/sub-link"),
        ("file", "/hello.txt"),
        ("file", "/inside"),
        ("file", "/sub/deep.txt"),
    ]
    assert lines[-1] == "FS1 END ok entries=5"
    assert "link=1" in next(line for line in lines if "/sub-link" in line)


def test_a_listing_of_one_level_does_not_descend(tree_server):
    answer = tree_server.ask(b"LIST /sub-link\n")
    assert b"\nfile /sub-link/deep.txt size=4 " in answer


def test_a_directory_too_deep_is_named_and_not_descended_into(serve, root):
    deep = root
    for _ in range(70):
        deep = deep / "d"
    deep.mkdir(parents=True)
    answer = serve().ask(b"LIST / recursive=1\n")
    assert answer.count(b"\ndir ") == 65
    assert answer.count(b" error=too-long\n") == 1
    assert answer.endswith(b"FS1 END ok entries=66\n")


def test_every_byte_but_nul_and_slash_can_stand_in_a_name(serve, root):
    for byte in set(range(1, 256)) - {ord("/"), ord(".")}:
        with open(os.path.join(os.fsencode(root), bytes([byte])), "wb") as file:
            file.write(b"%d" % byte)
    server = serve()
    listing = server.ask(b"LIST /\n")
    names = re.findall(rb"^file (\S+) size=[123] ", listing, re.MULTILINE)
    assert len(names) == 253
    answers = server.ask(b"".join(b"GET " + name + b"\n" for name in names))
    assert sorted(map(int, re.findall(rb"\n(\d+)FS1 END ok\n", answers))) == sorted(set(range(1, 256)) - {47, 46})


def test_a_thousand_pipelined_requests_are_answered_in_order(serve, root):
    for number in range(10):
        (root / str(number)).write_text(f"content {number}\n")
    requests = [number % 10 for number in range(1000)]
    server = serve()
    answer = server.ask(b"".join(b"GET /%d\n" % number for number in requests))
    assert [int(number) for number in re.findall(rb"content (\d)\n", answer)] == requests
    assert answer.count(b"FS1 END ok\n") == 1000
    server.wait_for(" end ", 1000)


def test_requests_that_come_byte_by_byte_are_understood(serve):
    with serve().connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /hello.txt\nPING\n":
            connection.sendall(bytes([byte]))
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert statuses(answer) == [200, 200]


def test_a_request_cut_off_in_the_middle_is_a_bad_request_after_the_answers_before_it(serve):
    assert statuses(serve().ask(b"PING\nGET /hel")) == [200, 400]


def test_nothing_is_answered_after_a_bad_request(serve):
    assert statuses(serve().ask(b"NONSENSE\nPING\n")) == [400]


def test_a_peer_that_never_speaks_is_told_and_closed(serve, tmp_path):
    server = serve("--config", _config(tmp_path, "request_s = 0.3"))
    with server.connect() as connection:
        assert connection.recv(4096).startswith(b"FS1 408 too-slow ")
        assert connection.recv(4096) == b""
    server.wait_for("status=408 outcome=too-slow")


def test_a_request_that_trickles_meets_one_deadline_for_all_its_bytes(serve, tmp_path):
    server = serve("--config", _config(tmp_path, "request_s = 0.5"))
    with server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(0.05)
        sent = 0
        while True:
            try:
                connection.sendall(b"P")
                sent += 1
                answer = connection.recv(4096)
                break
            except TimeoutError:
                continue
        assert answer.startswith(b"FS1 408 ")
        assert sent > 3


def test_an_idle_connection_is_closed_without_a_word(serve, tmp_path):
    server = serve("--config", _config(tmp_path, "idle_s = 0.2"))
    with server.connect() as connection:
        connection.sendall(b"PING\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert statuses(answer) == [200]
    server.quiet()
    assert len(server.log(" end ")) == 1


def test_a_peer_that_takes_nothing_loses_its_connection(serve, root, tmp_path):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", _config(tmp_path, "stall_s = 0.3"))
    with server.connect() as connection:
        connection.sendall(b"GET /big\n")
        line = server.wait_for("outcome=peer-too-slow")
    sent, promised = (field(name, line.encode()) for name in (b"sent", b"promised"))
    assert 0 < int(sent) < int(promised) == 1 << 26


def test_what_a_peer_that_takes_nothing_more_was_sent_of_a_small_file_is_counted(serve, root, tmp_path):
    size = 16384
    (root / "small").write_bytes(bytes(size))
    server = serve("--config", _config(tmp_path, "stall_s = 0.3"))
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /small\n" * 1000)
        last = server.wait_for("outcome=peer-too-slow").encode()
        assert int(field(b"sent", last)) <= int(field(b"promised", last)) == size
        counted = sum(int(field(b"sent", line.encode())) for line in server.log(" end "))
        server.wait_for(" receipt ")
        assert int(field(b"sent", server.log(" receipt ")[0].encode())) == counted


def test_a_peer_that_takes_little_but_steadily_is_not_taken_for_one_that_stalls(serve, root, tmp_path):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", _config(tmp_path, "stall_s = 1.0"))
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        connection.sendall(b"GET /big\n")
        received = 0
        # Less in all than frees so much of the server's send buffer that poll(2) calls it writable.
        for _ in range(12):
            received += len(connection.recv(65536))
            time.sleep(0.25)  # this slow it is
        assert not server.log(" end ")
        while data := connection.recv(1 << 20):
            received += len(data)
            if received > 1 << 26:
                break
        server.wait_for(" status=200 outcome=ok ")


def test_a_peer_that_takes_a_little_all_the_time_meets_the_minimum_rate(serve, root, tmp_path):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", _config(tmp_path, "stall_s = 0.5\nmin_rate_bytes = 1000000000"))
    with server.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /big\n")
        while not server.log("outcome=peer-too-slow"):
            connection.settimeout(0.05)
            try:
                if not connection.recv(65536):
                    break
            except (TimeoutError, ConnectionError):
                pass
        server.wait_for("outcome=peer-too-slow")


def test_a_peer_that_resets_ends_its_child_and_leaves_a_line(serve, root):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve()
    connection = server.connect()
    connection.sendall(b"GET /big\n")
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    server.wait_for("outcome=peer-gone")
    server.quiet()


def test_a_peer_that_connects_and_leaves_has_one_line_too(serve):
    server = serve()
    server.connect().close()
    assert "request=- " in server.wait_for("outcome=no-request")
    server.quiet()
    assert len(server.log(" end ")) == 1


def test_a_file_that_is_not_modified_is_not_sent_again(serve):
    server = serve()
    etag = field(b"etag", server.ask(b"STAT /hello.txt\n"))
    answer = server.ask(b"GET /hello.txt unless-etag=" + etag + b"\nGET /hello.txt if-etag=" + etag + b"\n")
    assert statuses(answer) == [304, 200]


def test_a_name_cannot_forge_a_line_of_the_log(serve):
    server = serve()
    server.ask(b"GET /x%0A2026-01-01T00:00:00.000000Z%20forkserver[1]%20end%1B[2J\n")
    line = server.wait_for("status=404")
    assert "path=/x%0A2026-01-01T00:00:00.000000Z%20forkserver%5B1%5D%20end%1B%5B2J " in line


def test_ping_tells_version_and_digests(serve):
    assert f" version={__version__} digests=sha256,blake2b\n".encode() in serve().ask(b"PING\n")


def test_ipv6_and_several_addresses_are_served(serve):
    server = serve("--bind", "127.0.0.1", "--bind", "[::1]:0")
    ports = re.findall(r"(?:127\.0\.0\.1|\[::1\]):(\d+)", server.log(" ready ")[0])
    assert len(ports) == 2
    with socket.create_connection(("::1", int(ports[1])), 10) as connection:
        connection.sendall(b"PING\n")
        assert connection.recv(4096).startswith(b"FS1 200 ok ")
    assert "peer=[::1]:" in server.wait_for(" end ")


def _config(tmp_path, text: str) -> str:
    path = tmp_path / "forkserver.toml"
    path.write_text(text)
    return str(path)


def test_a_bad_request_behind_a_part_has_a_line_of_its_own(serve, root):
    (root / "file").write_bytes(bytes(100))
    server = serve()
    server.ask(b"GET /file length=40\nBAD\n")
    server.wait_for(" outcome=bad-request ")
    lines = [line.encode() for line in server.log(" end ")]
    told = [(field(b"request", line), field(b"status", line), field(b"sent", line)) for line in lines]
    assert told == [(b"GET", b"200", b"40"), (b"-", b"400", b"0")]


@pytest.mark.parametrize("act", ["stop", "reload"])
def test_who_never_stops_asking_is_ended_like_the_others(serve, tmp_path, act):
    (tmp_path / "configuration").write_text("drain_s = 1.0\n")
    server = serve("--config", str(tmp_path / "configuration"))
    ended = threading.Event()
    with server.connect() as connection:
        connection.settimeout(None)
        connection.sendall(b"PING\n" * 100)

        def ask() -> None:
            with contextlib.suppress(OSError):
                while not ended.is_set():
                    connection.sendall(b"PING\n" * 100)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            assert connection.recv(65536)
            server.process.send_signal(signal.SIGTERM if act == "stop" else signal.SIGHUP)
            with contextlib.suppress(ConnectionError):
                while connection.recv(1 << 20):
                    pass
        finally:
            ended.set()
            thread.join()
    assert "cause=done" in (receipt := server.wait_for(" receipt ")) or "cause=retired" in receipt
    assert server.log(" died ") == []
