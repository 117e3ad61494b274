"""Small files within a listing: which come so, and that none comes that should not."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from pathlib import Path

import pytest

from forkserver.child.docroot import Docroot
from forkserver.child.inline import InlineContents
from forkserver.protocol.framing import ReplyStream
from forkserver.protocol.messages import MAX_LISTED_BYTES, Entry, Reply, Request, Trailer
from tests.conftest import swapping

ROUNDS = 2000


def contents(answer: bytes) -> dict[bytes, bytes | None]:
    """The entries of a listing that was asked for with contents, each with its own; they are checked on the way."""
    stream = ReplyStream()
    stream.expect(Request("LIST", content=1))
    found: dict[bytes, bytes | None] = {}
    while True:
        while (event := stream.next_event()) is None:
            room = stream.room()
            piece, answer = answer[: len(room)], answer[len(room) :]
            room[: len(piece)] = piece
            stream.received(len(piece))
        if isinstance(event, Trailer):
            assert event.fields["entries"] == str(len(found))
            return found
        if isinstance(event, Entry):
            found[event.name] = None if event.content is None else bytes(event.content)
            if event.content is not None:
                assert event.fields["length"] == event.fields["size"] == str(len(event.content))
                assert event.fields["digest"] == f"sha256:{hashlib.sha256(event.content).hexdigest()}"
        else:
            assert isinstance(event, Reply)


@pytest.fixture
def filled(root):
    """Files of several lengths, and what is no file."""
    for name, size in {"empty": 0, "small": 10, "limit": 100, "longer": 101, "sub/deep": 50}.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(os.urandom(size))
    (root / "link").symlink_to("small")
    os.mkfifo(root / "fifo")
    return root


def test_files_up_to_the_length_asked_for_come_with_their_entries_and_all_others_without(serve, filled):
    server = serve()
    answer = server.ask(b"LIST / content=100 digest=sha256 recursive=1\n")
    found = contents(answer)
    for name in ("empty", "small", "limit", "sub/deep", "hello.txt"):
        assert found.pop(b"/" + name.encode()) == (filled / name).read_bytes()
    assert found == {b"/longer": None, b"/link": None, b"/sub": None}
    end = server.wait_for(" end ")
    reply_and_trailer = len(answer.split(b"\n", 1)[0]) + len(b"\nFS1 END ok entries=8\n")
    assert f" request=LIST path=/ status=200 outcome=ok sent={len(answer) - reply_and_trailer} " in end


def test_without_a_digest_the_contents_come_all_the_same(serve, filled):
    answer = serve().ask(b"LIST /sub content=100\n")
    assert b" length=50\n" + (filled / "sub" / "deep").read_bytes() + b"FS1 END ok entries=1\n" in answer


def test_no_listing_carries_longer_files_than_the_protocol_allows(serve, root):
    (root / "most").write_bytes(bytes(MAX_LISTED_BYTES))
    (root / "more").write_bytes(bytes(MAX_LISTED_BYTES + 1))
    found = contents(serve().ask(b"LIST / content=9999999999 digest=sha256\n"))
    assert found[b"/most"] == bytes(MAX_LISTED_BYTES)
    assert found[b"/more"] is None


@pytest.mark.parametrize(
    ("setting", "carried"), [("0", []), ("50", [b"/empty", b"/hello.txt", b"/small", b"/sub/deep"])]
)
@pytest.mark.usefixtures("filled")
def test_the_operator_decides_which_files_a_listing_carries(serve, tmp_path, setting, carried):
    (tmp_path / "forkserver.toml").write_text(f"listing_content_bytes = {setting}\n")
    server = serve("--config", str(tmp_path / "forkserver.toml"))
    found = contents(server.ask(b"LIST / content=100 digest=sha256 recursive=1\n"))
    assert len(found) == 8
    assert sorted(name for name, content in found.items() if content is not None) == carried


def test_a_listing_of_many_contents_goes_on_as_fast_as_the_peer_takes_it(serve, root):
    for number in range(500):
        (root / f"{number}").write_bytes(bytes([number % 256]) * 16000)
    with serve().connect() as connection:
        connection.sendall(b"LIST / content=16384 digest=sha256\nPING\n")
        connection.shutdown(1)
        answer = bytearray()
        while piece := connection.recv(3000):
            answer += piece
    assert answer.count(b"FS1 200 ok ") == 2
    found = contents(bytes(answer))
    assert all(found[b"/%d" % number] == bytes([number % 256]) * 16000 for number in range(500))


@pytest.fixture
def inside(tmp_path):
    """What encloses files of up to 100 bytes, a directory that was opened, and its path."""
    path = tmp_path / "root" / "inside"
    path.mkdir(parents=True)
    root_fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    docroot = Docroot(root_fd, hidden=False)
    directory = docroot.open(b"/inside")
    yield InlineContents(docroot, 100, "sha256"), directory, path
    directory.close()
    os.close(root_fd)


@pytest.mark.parametrize("change", [b"afterwards", b"a", b"behind"], ids=["longer", "shorter", "as long"])
def test_a_file_that_is_written_to_while_it_is_read_comes_without_its_content(inside, monkeypatch, change):
    inline, directory, path = inside
    file = path / "x"
    file.write_bytes(b"before")
    os.utime(file, (1, 1))
    whole = inline.entry(b"/x", directory, "x", os.stat(file))
    assert whole is not None
    assert whole.content == b"before"
    pread = os.pread

    def read_and_write(*arguments: int) -> bytes:
        content = pread(*arguments)
        file.write_bytes(change)
        return content

    monkeypatch.setattr(os, "pread", read_and_write)
    assert inline.entry(b"/x", directory, "x", os.stat(file)) is None


@pytest.mark.parametrize("change", ["gone", "link", "directory", "fifo", "longer", "another"])
def test_a_file_that_is_another_since_it_was_seen_is_not_taken_for_what_it_was(inside, tmp_path, change):
    inline, directory, path = inside
    file = path / "x"
    file.write_bytes(b"before")
    seen = os.stat(file)
    (tmp_path / "secret").write_bytes(b"SECRET")
    file.unlink()
    if change == "link":
        file.symlink_to(tmp_path / "secret")
    elif change == "directory":
        file.mkdir()
    elif change == "fifo":
        os.mkfifo(file)
    elif change != "gone":
        file.write_bytes(bytes(101) if change == "longer" else b"behind it")
    entry = inline.entry(b"/x", directory, "x", seen)
    if change == "another":
        assert entry is not None
        assert (entry.content, entry.fields["size"]) == (b"behind it", "9")
    else:
        assert entry is None


@pytest.mark.parametrize("place", ["root/.hidden", "root/other", "outside"])
def test_what_is_in_a_directory_that_left_its_place_is_not_enclosed_any_more(inside, tmp_path, place):
    inline, directory, path = inside
    (path / "x").write_bytes(b"public")
    seen = os.stat(path / "x")
    assert inline.entry(b"/inside/x", directory, "x", seen) is not None
    path.rename(tmp_path / place)
    inline.distrust_directory()
    assert inline.entry(b"/inside/x", directory, "x", seen) is None
    path.mkdir()  # another one, in its place
    inline.distrust_directory()
    assert inline.entry(b"/inside/x", directory, "x", seen) is None


def wait_until_it_waits(pid: int) -> None:
    """Until a process has been asleep (proc_pid_stat(5)) for a tenth of a second: its peer takes nothing."""
    asleep = 0
    while asleep < 10:
        asleep = asleep + 1 if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S" else 0
        time.sleep(0.01)


def test_a_peer_that_takes_its_time_gets_no_content_of_a_directory_that_left_what_is_served(serve, root):
    for number in range(1500):
        (root / "x").mkdir(exist_ok=True)
        (root / "x" / str(number)).write_bytes(bytes(16000))
    server = serve()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect((server.host, server.port))
        connection.sendall(b"LIST /x content=16384 digest=sha256\n")
        connection.shutdown(socket.SHUT_WR)
        first = b""
        while len(first) < 100_000:
            first += connection.recv(1000)
        wait_until_it_waits(server.children()[0])
        (root / "x").rename(root / ".x")
        for number in range(1500):
            (root / ".x" / str(number)).write_bytes(b"SECRET")
        answer = first + b"".join(iter(lambda: connection.recv(1 << 20), b""))
    found = contents(answer)
    assert len(found) == 1500
    carried = [content for content in found.values() if content is not None]
    assert 0 < len(carried) < 1500
    assert carried.count(b"SECRET") == 0


def test_no_race_with_a_link_encloses_what_lies_outside(inside, tmp_path):
    inline, directory, path = inside
    (tmp_path / "secret").write_bytes(b"SECRET")
    (path / "real").write_bytes(b"public")
    (path / "link").symlink_to(tmp_path / "secret")
    seen = os.stat(path / "real")
    with swapping(path):
        met: set[bytes | memoryview | None] = set()
        rounds = 0
        while rounds < ROUNDS or met != {b"public", None}:
            rounds += 1
            entry = inline.entry(b"/swap", directory, "swap", seen)
            met.add(entry.content if entry else None)
            assert met <= {b"public", None}
