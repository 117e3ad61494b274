"""``--verify``: files that are here, against a list that sha256sum(1) has written."""

from __future__ import annotations

import hashlib
import os

import pytest

pytestmark = pytest.mark.usefixtures("listed")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def listed(place, sha256sum):
    """Three files, and a list of them that sha256sum has written."""
    for name in ("a", "b\n", "sub/c"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_bytes(name.encode())
    written = sha256sum(place, "a", "b\n", "sub/c").stdout
    (place / "SUMS").write_text(written)
    return written


def test_files_as_in_the_list_are_told_in_one_line(fsget):
    result = fsget("--verify", "SUMS")
    assert (result.status, result.out, result.err) == (0, "3 files, all as in the list\n", "")


def test_the_list_can_come_from_standard_input_for_another_directory(fsget, place, listed, tmp_path):
    result = fsget("--verify", "-", "-d", str(place), cwd=tmp_path, stdin=None, input=listed.encode())
    assert (result.status, result.err) == (0, "")


def test_what_a_run_has_listed_it_can_verify(fsget, lying_server, says):
    names = ["plain", "back\\slash", "line\nfeed", b"\xff", "-"]
    server = lying_server([step for _ in names for step in says.file(b"x")])
    assert fsget("-s", server.address, "--manifest", "OURS", "--", *names).status == 0
    assert fsget("--verify", "OURS").out == "5 files, all as in the list\n"


def test_each_that_differs_or_is_missing_has_a_line(fsget, place, sha256sum):
    (place / "a").write_bytes(b"A")
    (place / "b\n").unlink()
    result = fsget("--verify", "SUMS")
    assert result.status == 6
    assert result.err == (
        f"fsget: a: its sha256 is {sha256(b'A')}, and in the list {sha256(b'a')}\nfsget: b\\x0a: is missing\n"
    )
    assert result.out == "1 of 3 files as in the list, 1 different, 1 missing\n"
    assert sha256sum(place, "--check", "SUMS").returncode == 1


def test_a_file_whose_directory_is_a_file_by_now_is_missing(fsget, place):
    (place / "sub" / "c").unlink()
    (place / "sub").rmdir()
    (place / "sub").touch()
    result = fsget("--verify", "SUMS")
    assert (result.status, result.err) == (6, "fsget: sub/c: is missing\n")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_regular_file_is_not_read_nor_waited_for(fsget, place, make):
    (place / "a").unlink()
    make(place / "a")
    result = fsget("--verify", "SUMS")
    assert (result.status, result.err) == (7, "fsget: a: is not a regular file, and is not read\n")
    assert result.out == "2 of 3 files as in the list, 1 not read\n"


@pytest.mark.parametrize("name", ["../secret", "{}/secret", "link", "elsewhere/secret", "sub/../../secret"])
def test_a_list_reads_nothing_outside_the_directory(fsget, place, name):
    secret = place.parent / "secret"
    secret.write_bytes(b"secret")
    (place / "link").symlink_to(secret)
    (place / "elsewhere").symlink_to(place.parent)
    (place / "SUMS").write_text(f"{sha256(b'guess')}  {name.format(place.parent)}\n")
    result = fsget("--verify", "SUMS")
    assert (result.status, f"lies outside {place}, and is not read" in result.err) == (7, True)
    assert sha256(b"secret") not in result.err


def test_a_link_to_a_place_inside_is_followed(fsget, place):
    (place / "a").rename(place / "real")
    (place / "a").symlink_to("real")
    assert fsget("--verify", "SUMS").status == 0


def test_quiet_leaves_only_failures(fsget, place):
    assert fsget("-q", "--verify", "SUMS").out == ""
    (place / "a").unlink()
    result = fsget("-q", "--verify", "SUMS")
    assert (result.status, result.out, result.err) == (6, "", "fsget: a: is missing\n")


def test_json_is_one_object_a_file(fsget, place):
    (place / "a").write_bytes(b"A")
    (place / "sub" / "c").unlink()
    objects = fsget("--json", "--verify", "SUMS").objects
    assert [(each["name"], each["status"]) for each in objects] == [
        ("a", "checksum-mismatch"),
        ("b\n", "ok"),
        ("sub/c", "missing"),
    ]
    assert objects[1]["digest"] == "sha256:" + sha256(b"b\n")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"%s  a\nnonsense\n" % sha256(b"a").encode(), "line 2 is not one of sha256sum"),
        (b"# nothing\n", "names no file, so there is nothing to verify"),
        (b"", "names no file, so there is nothing to verify"),
        (b"%s  a\0b\n" % sha256(b"a").encode(), "line 1 is not one of sha256sum"),
        (bytes(10**6), "line 1 is not one of sha256sum"),
    ],
)
def test_a_list_that_is_none_is_told_before_any_file_is_read(fsget, place, content, complaint):
    (place / "a").unlink()
    (place / "SUMS").write_bytes(content)
    result = fsget("--verify", "SUMS")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"fsget: SUMS: {complaint}")
    assert result.err.endswith("; such lists are made by --manifest, and by sha256sum(1)\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--verify", "missing"], "missing: cannot be read: No such file or directory"),
        (["--verify", "."], ".: cannot be read: Is a directory"),
        (["--verify", "SUMS", "-d", "none"], "none: no such directory; give another with -d"),
    ],
)
def test_a_list_or_directory_that_is_not_there_is_one_line(fsget, arguments, complaint):
    result = fsget(*arguments)
    assert (result.status, result.out, result.err) == (7, "", f"fsget: {complaint}\n")


def test_a_closed_standard_input_is_one_line(fsget):
    result = fsget("--verify", "-", first="exec <&-")
    assert (result.status, result.err) == (7, "fsget: standard input: cannot be read: it is closed\n")
