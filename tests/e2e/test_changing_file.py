"""A file that changes while it is being sent: never a transfer that looks complete."""

from __future__ import annotations

import os
import re

import pytest


@pytest.fixture(scope="module")
def changing_root(tmp_path_factory):
    return tmp_path_factory.mktemp("changing")


@pytest.fixture(scope="module")
def changing_server(changing_root, serve_in):
    with serve_in(changing_root) as start:
        yield start()


@pytest.fixture
def path(changing_root, large):
    """A large file, through a symbolic link, as it stands before the change."""
    for name in ("target", "link"):
        (changing_root / name).unlink(missing_ok=True)
    (changing_root / "target").write_bytes(large)
    (changing_root / "link").symlink_to("target")
    return changing_root / "target"


def truncate(path) -> None:
    os.truncate(path, 1000)


def shorten_by_a_byte(path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path) -> None:
    os.truncate(path, 0)


def replace(path) -> None:
    new = path.with_name("new")
    new.write_bytes(bytes(path.stat().st_size))
    new.rename(path)


def replace_by_a_copy_with_its_times(path) -> None:
    new, before = path.with_name("new"), path.stat()
    new.write_bytes(path.read_bytes())
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def append(path) -> None:
    with path.open("ab") as file:
        file.write(b"one more line\n")


def rewrite_in_place(path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xaa" * path.stat().st_size)


def rewrite_a_byte_and_put_its_time_back(path) -> None:
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def remove(path) -> None:
    path.unlink()


def retarget_its_link(path) -> None:
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("new").symlink_to("other")
    path.with_name("new").rename(path.with_name("link"))


CHANGES = [
    (truncate, "truncated"),
    (shorten_by_a_byte, "truncated"),
    (empty, "truncated"),
    (replace, "changed"),
    (replace_by_a_copy_with_its_times, "changed"),
    (append, "changed"),
    (rewrite_in_place, "changed"),
    (rewrite_a_byte_and_put_its_time_back, "changed"),
    (remove, "changed"),
    (retarget_its_link, "changed"),
]
SENTENCES = {
    "truncated": "the file became shorter while it was being sent",
    "changed": "the file was modified while it was being sent",
}
# What has been sent already may still change with the file: sendfile(2) sends pages, not copies of them.
KEEPS_OLD_CONTENT = (replace, replace_by_a_copy_with_its_times, append, remove, retarget_its_link)


@pytest.mark.parametrize("fields", [b"", b" digest=sha256"], ids=["plain", "digest"])
@pytest.mark.parametrize(("change", "end"), CHANGES, ids=[change.__name__ for change, _ in CHANGES])
def test_the_trailer_tells_what_happened_to_the_file(  # noqa: PLR0913, PLR0917 - fixtures, and three parameters
    changing_server, path, get, large, change, end, fields
):
    transfer = get(changing_server, b"GET /link" + fields)
    assert transfer.length == len(large)
    change(path)
    content, trailer = transfer.rest()
    assert trailer.startswith(f"FS1 END {end} ".encode())
    assert b"digest=" not in trailer
    if end == "truncated":
        assert len(content) < len(large)
        assert f" sent={len(content)} ".encode() in trailer
    else:
        assert len(content) == len(large)
    if change in KEEPS_OLD_CONTENT:
        assert content == large
    transfer.close()
    changing_server.quiet()
    line = changing_server.wait_for(f" end pid={transfer.pid} ")
    assert f" status=200 outcome={end} sent={len(content)} promised={len(large)} " in line


SAME_SIZE = (
    replace,
    replace_by_a_copy_with_its_times,
    rewrite_in_place,
    rewrite_a_byte_and_put_its_time_back,
    retarget_its_link,
)
OTHER_SIZE = [(change, end) for change, end in CHANGES if change not in SAME_SIZE]


@pytest.mark.parametrize(("change", "end"), OTHER_SIZE, ids=[change.__name__ for change, _ in OTHER_SIZE])
def test_fsget_fails_and_leaves_nothing_of_a_file_whose_size_changed(  # noqa: PLR0913, PLR0917 - fixtures, and two parameters
    changing_server, path, begin, relay, place, change, end
):
    held = relay(changing_server)
    run = begin(held, "--json", "link")
    changing_server.wait_until(lambda: held.heads, "a transfer in progress")
    changing_server.wait_until(lambda: os.listdir(place), "content kept under another name")
    change(path)
    held.release()
    result = run.result()
    assert result.status == 6
    # Told by the trailer of the piece that was being sent, or by the answer to the request for the next one; maybe over
    # another connection, where the child hung up and its last words were lost with the requests it had not read.
    between = "the file was modified or replaced while it was being fetched"
    sentence = rf"({SENTENCES[end]}|{SENTENCES['changed']}|{between})( after [\d,]+ of [\d,]+ bytes)?"
    told = re.fullmatch(rf"fsget: link: {sentence} \(served by PID (\d+)\)\n", result.err)
    assert told, result.err
    changing_server.wait_for(f" end pid={told[3]} ")
    assert result.objects[0]["status"] in (end, "changed")
    assert os.listdir(place) == []


@pytest.mark.parametrize("change", SAME_SIZE, ids=[change.__name__ for change in SAME_SIZE])
def test_fsget_goes_on_with_the_file_as_it_is_then_where_its_size_is_the_same(  # noqa: PLR0913, PLR0917 - fixtures
    changing_server, path, begin, relay, place, change
):
    held = relay(changing_server)
    run = begin(held, "--json", "link")
    changing_server.wait_until(lambda: held.heads, "a transfer in progress")
    changing_server.wait_until(lambda: os.listdir(place), "content kept under another name")
    change(path)
    held.release()
    result = run.result()
    assert (result.status, result.err) == (0, "")
    assert result.objects[0]["received"] >= path.stat().st_size
    assert os.listdir(place) == ["link"]
    assert (place / "link").read_bytes() == path.with_name("link").read_bytes()


def test_a_file_that_is_only_read_meanwhile_is_no_changed_file(changing_server, path, get, large):
    transfer = get(changing_server, b"GET /link digest=sha256")
    assert path.read_bytes() == large
    content, trailer = transfer.rest()
    assert content == large
    assert trailer.startswith(b"FS1 END ok digest=sha256:")


def test_after_a_failed_transfer_the_file_can_be_fetched_as_it_is_now(changing_server, path, get, fsget, place):
    transfer = get(changing_server, b"GET /link")
    truncate(path)
    assert b"truncated" in transfer.rest()[1]
    assert fsget(changing_server, "link").status == 0
    assert (place / "link").read_bytes() == path.read_bytes()
