"""``forkserver.client`` as a library: the calls of its documentation, on a real server."""

from __future__ import annotations

import hashlib
import os

import pytest

from forkserver.client import Client, Exit, Failed, Failure, Fetched, Planned, Progress, Retrying, Skipped, Waiting
from forkserver.client.local.partial import PIECE_BYTES


@pytest.fixture
def events():
    return []


@pytest.fixture
def client(serve, events, tmp_path, monkeypatch):
    server = serve()
    (tmp_path / "place").mkdir()
    monkeypatch.chdir(tmp_path / "place")
    with Client(f"{server.host}:{server.port}", on_event=events.append) as client:
        yield client


def test_a_file_is_fetched_to_a_path_and_the_receipt_tells_who_sent_it(client, events):
    receipt = client.fetch("hello.txt", "here")
    with open("here", "rb") as file:
        assert file.read() == b"Hello, world\n"
    assert receipt.digest == "sha256:" + hashlib.sha256(b"Hello, world\n").hexdigest()
    assert receipt.size == receipt.received == 13
    assert [served.server for served in receipt.served] == [str(client.servers[0])]
    assert events == [Progress(b"/hello.txt", 0, 13), Progress(b"/hello.txt", 13, 13)]


def test_the_receipt_of_a_long_file_has_the_digest_of_the_whole_unless_that_is_not_wanted(client, root):
    content = os.urandom(PIECE_BYTES + 1)
    (root / "long").write_bytes(content)
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    assert client.fetch("long").digest == digest
    assert client.fetch("long").digest == digest, "of one that is here unchanged, too"
    assert client.fetch("long", "other", whole_digest=False).digest is None


def test_without_a_path_a_file_keeps_its_name(client, tmp_path):
    client.fetch(b"/hello.txt")
    assert os.listdir(tmp_path / "place") == ["hello.txt"]


def test_a_checksum_is_compared(client, tmp_path):
    with pytest.raises(Failure) as caught:
        client.fetch("hello.txt", checksum="0" * 64)
    assert (caught.value.exit_status, caught.value.word) == (Exit.INTEGRITY, "checksum-mismatch")
    assert os.listdir(tmp_path / "place") == []


def test_a_directory_is_listed_and_a_file_described(client, root):
    (root / "sub").mkdir()
    (root / "sub/f").write_bytes(b"12345")
    assert {entry.name for entry in client.list()} >= {b"/hello.txt", b"/sub"}
    assert [entry.data.size for entry in client.list("sub")] == [5]
    assert b"/sub/f" in {entry.name for entry in client.list("/", recursive=True)}
    assert client.stat("sub/f").size == 5
    assert client.stat("/").kind == "dir"


def test_a_name_that_looks_like_a_scheme_is_just_a_name(client):
    with pytest.raises(Failure, match="does not exist on the server"):
        client.fetch("http:x")


@pytest.mark.parametrize(("name", "status"), [("missing", Exit.NOT_FOUND), ("..", Exit.USAGE), ("", Exit.USAGE)])
def test_what_cannot_be_fetched_raises_a_failure(client, name, status):
    with pytest.raises(Failure) as caught:
        client.fetch(name)
    assert caught.value.exit_status is status


def test_a_tree_is_fetched_and_its_events_told(client, events, root):
    (root / "tree/sub").mkdir(parents=True)
    (root / "tree/a").write_bytes(b"a")
    (root / "tree/sub/b").write_bytes(b"b")
    (root / "tree/link").symlink_to("sub")
    summary = client.fetch_tree("tree", exclude=["b"])
    assert summary == (1, 0, 0, 1, 1)
    assert os.listdir("tree/sub") == []
    assert client.fetch_tree("tree").unchanged == 1
    assert {type(event) for event in events} == {Planned, Fetched, Skipped}
    os.mkdir("blocked")
    os.mkdir("blocked/tree")
    os.mkdir("blocked/tree/a")
    assert client.fetch_tree("tree", "blocked").failed == 1
    failed = [event for event in events if isinstance(event, Failed)]
    assert [event.name for event in failed] == [b"/tree/a"]


def test_a_large_file_comes_over_several_connections(serve, root, tmp_path):
    content = os.urandom(3 * PIECE_BYTES)
    (root / "large").write_bytes(content)
    server = serve()
    with Client(f"{server.host}:{server.port}", connections=3) as client:
        client.fetch("large", tmp_path / "here")
    assert (tmp_path / "here").read_bytes() == content


def test_a_server_that_is_asked_again_is_told(serve, tmp_path, events):
    server = serve("--max-per-peer", "1")
    held = server.connect()
    held.sendall(b"PING\n")
    assert held.recv(1000)

    def release(event) -> None:
        events.append(event)
        held.close()

    with Client(f"{server.host}:{server.port}", on_event=release) as client:
        client.fetch("hello.txt", tmp_path / "here")
    waited = [event for event in events if isinstance(event, Retrying)]
    assert waited
    assert Waiting is Retrying
    assert all("is busy, asking again (" in event.text and event.wait_s > 0 for event in waited)


def test_a_client_needs_a_server_that_can_be_one():
    with pytest.raises(ValueError, match="a client needs a server"):
        Client()
    with pytest.raises(ValueError, match="a port is a number"):
        Client("host:port")


def test_what_is_listed_can_be_fetched_meanwhile(client, root):
    for number in range(5):
        (root / f"file-{number}").write_text("x")
    listed = [entry.name for entry in client.list("/") if client.fetch(entry.name).size]
    assert set(listed) >= {f"/file-{number}".encode() for number in range(5)}


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"timeout_s": -1}, {"retries": -1}, {"connections": 0}, {"rate": 0}], ids=str
)
def test_numbers_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="must be above 0"):
        Client("127.0.0.1", **options)


def test_a_checksum_may_have_its_name_and_must_be_one(client):
    digest = hashlib.sha256(b"Hello, world\n").hexdigest()
    assert client.fetch("hello.txt", "here", checksum=f"sha256:{digest}").size == 13
    with pytest.raises(Failure) as caught:
        client.fetch("hello.txt", "here", checksum="00")
    assert caught.value.exit_status is Exit.USAGE
