"""Directories that nothing can be written into: one cause is one line, and nothing is asked for in vain."""

from __future__ import annotations

import functools
import os
import subprocess
import time

import pytest

# Without these capabilities the permissions of files hold for root, too; whoever is not root has them not.
AS_ANYBODY = 'exec setpriv --bounding-set=-dac_override,-dac_read_search "$@"' if os.geteuid() == 0 else ""
FILES = 60


@pytest.fixture
def get(fsget, server, root):
    """``fsget`` as a user whom permissions hold for, from a server of a tree with 180 files."""
    for directory in ("one", "two", "two/deep"):
        (root / "tree" / directory).mkdir(parents=True)
        for number in range(FILES):
            (root / "tree" / directory / str(number)).write_text(str(number))
    return functools.partial(fsget, "-s", f"{server.host}:{server.port}", first=AS_ANYBODY)


@pytest.fixture
def read_only(tmp_path):
    """A file system that nothing can be written to, with some of the tree, ``tree/two`` among it."""
    path = tmp_path / "read-only"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system of its own")
    (path / "tree/two/deep").mkdir(parents=True)
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def closed(place):
    """Have directories of ``place`` closed for writing, until the test is over."""
    done = []

    def close(*names: str, mode: int = 0o555) -> None:
        for name in names:
            (place / name).mkdir(parents=True, exist_ok=True)
            done.append(place / name)
        for path in done:
            path.chmod(mode)

    yield close
    for path in done:
        path.chmod(0o755)


def count(place) -> int:
    return sum(path.is_file() for path in place.rglob("*"))


@pytest.mark.parametrize(
    "options", [("-r", "tree"), ("-r", "/"), ("tree/*/*",), ("-r", "-j", "4", "tree"), ("-i", "-")], ids=str
)
def test_a_target_directory_that_nothing_can_be_written_into_ends_the_run_at_once(get, server, place, closed, options):
    closed(".")
    names = "".join(f"tree/one/{number}\n" for number in range(FILES)).encode()
    result = get(*options, stdin=None, input=names)
    assert result.status == 7
    assert len(result.err.splitlines()) == (2 if "-i" in options else 1)
    assert "local directory .: permission denied" in result.err
    assert not server.log(" request=LIST ")
    assert not server.log(" request=GET ")
    # Whether a file has the very name of a pattern is asked before.
    assert bool(server.log(" request=STAT ")) == ("*" in options[0])
    assert os.listdir(place) == []


def test_every_name_of_a_list_has_its_object_where_nothing_can_be_written(get, closed):
    closed(".")
    result = get("-i", "-", "--json", stdin=None, input=b"tree/one/1\ntree/two/2\n")
    assert [(each["name"], each["status"]) for each in result.objects] == [
        ("tree/one/1", "local-disk"),
        ("tree/two/2", "local-disk"),
    ]
    assert result.err == "fsget: tree/one/1: local directory .: permission denied\n"


def test_a_file_system_that_is_read_only_is_told_once(get, server, read_only):
    result = get("-r", "-d", str(read_only), "tree")
    assert result.status == 7
    assert result.err == (
        f"fsget: tree: local directory {read_only}: the file system is read-only; what belongs there is left out\n"
    )
    assert "180 not tried" in result.out
    assert not server.log(" request=GET ")


@pytest.mark.parametrize("connections", ["1", "4"])
def test_a_directory_that_nothing_can_be_written_into_is_told_once(get, server, place, closed, connections):
    closed("tree/two")
    result = get("-r", "-j", connections, "--json", "tree")
    assert result.status == 7
    assert result.err == (
        "fsget: tree/two: local directory tree/two: permission denied; what belongs there is left out\n"
    )
    assert count(place) == FILES
    # Its missing directory belongs there, with all that is in it.
    (told,) = [each for each in result.objects if each["status"] != "ok"]
    assert told == {
        "name": "/tree/two",
        "status": "local-disk",
        "seconds": 0,
        "path": "tree/two",
        "files": 2 * FILES,
        "message": "local directory tree/two: permission denied",
    }
    assert not server.log("two/")


def test_the_last_line_counts_what_was_left_out(get, closed):
    closed("tree/one", "tree/two")
    result = get("-r", "tree")
    assert len(result.err.splitlines()) == 2
    assert "0 files, 0 bytes, 2 failed, 180 not tried, for the same reason" in result.out


def test_what_is_unchanged_needs_no_directory_that_can_be_written_into(get, closed):
    assert get("-r", "tree").status == 0
    closed(".", "tree", "tree/one", "tree/two", "tree/two/deep")
    result = get("-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "180 files, 330 bytes, unchanged" in result.out


def test_a_directory_within_one_that_nothing_can_be_written_into_is_still_filled(get, place, closed):
    closed("tree/two")
    (place / "tree/two").chmod(0o755)
    (place / "tree/two/deep").mkdir()
    closed(".", "tree/two")
    result = get("-r", "tree")
    assert result.status == 7
    assert len(result.err.splitlines()) == 1
    assert count(place) == 2 * FILES
    assert count(place / "tree/two/deep") == FILES


def test_a_directory_that_cannot_be_entered_is_told_once(get, closed):
    closed("tree/two", mode=0)
    result = get("-r", "tree")
    assert result.status == 7
    assert result.err == (
        "fsget: tree/two: local directory tree/two: permission denied; what belongs there is left out\n"
    )
    assert "120 not tried" in result.out


def test_a_file_in_the_way_of_a_directory_is_told_once(get, place):
    (place / "tree").mkdir()
    (place / "tree/two").write_text("mine")
    result = get("-r", "tree")
    assert result.status == 7
    assert result.err == "fsget: tree/two: local file tree/two: not a directory; what belongs there is left out\n"
    assert (place / "tree/two").read_text() == "mine"


def test_a_directory_that_is_made_but_not_for_writing_is_told_once(get, place):
    umask = "umask 0222; " + (AS_ANYBODY or ":")
    result = get("-r", "tree", first=umask)
    assert result.status == 7
    # Only the topmost can be made: nothing can be made in it.
    assert len(result.err.splitlines()) == 1
    assert "local directory tree: permission denied" in result.err
    (place / "tree").chmod(0o755)


@pytest.mark.parametrize("connections", ["1", "2"])
def test_a_directory_that_refuses_files_only_when_they_are_made_is_told_once(get, server, place, connections):
    # It is this run that makes the directory, so it is not looked at before.
    result = get("-r", "-j", connections, "tree/one", first="umask 0222; " + (AS_ANYBODY or ":"))
    assert result.status == 7
    assert len(result.err.splitlines()) == 1
    assert "permission denied; what belongs there is left out" in result.err
    assert "0 files, 0 bytes, 1 failed, 60 not tried" in result.out
    assert len(server.log(" request=GET ")) < FILES
    (place / "one").chmod(0o755)
    assert os.listdir(place / "one") == []


def test_nothing_is_deleted_where_something_was_left_out(get, place, closed):
    closed("tree/two")
    (place / "tree/old").write_text("old")
    assert get("-r", "--delete", "--confirm-delete", "tree").status == 7
    assert (place / "tree/old").exists()


def test_a_list_tells_a_directory_once_and_the_names_to_programs(get, closed):
    closed("tree/two")
    names = b"".join(b"tree/%s/%d\n" % (each, number) for each in (b"one", b"two") for number in range(FILES))
    result = get("-i", "-", "--json", stdin=None, input=names)
    assert result.status == 7
    assert result.err == (
        "fsget: tree/two: local directory tree/two: permission denied; what belongs there is left out\n"
    )
    assert len(result.objects) == 2 * FILES
    assert sum(each["status"] == "local-disk" for each in result.objects) == FILES
    again = get("-i", "-", stdin=None, input=names)
    assert again.err.splitlines()[1:] == ["fsget: 60 files not tried, for the same reason"]


def test_a_target_directory_that_goes_away_during_a_tree_ends_the_run_with_one_line(server, root, place, begin):
    (root / "tree").mkdir()
    (root / "tree/large").write_bytes(bytes(600_000))
    (place / "target").mkdir()
    address = f"{server.host}:{server.port}"
    command = ("-s", address, "--limit-rate", "300K", "-q", "-r", "-d", "target", "tree")
    run = begin(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any((place / "target").rglob(".fsget-*")):  # until a transfer is in progress
        assert run.poll() is None
        time.sleep(0.01)
    (place / "target").rename(place / "moved")
    _, errors = run.communicate(timeout=30)
    assert (run.returncode, errors.count(b"\n")) == (7, 1)
    assert b"target: no such" in errors
