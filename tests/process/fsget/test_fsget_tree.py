"""Trees: everything arrives as it is there, once, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import signal
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from forkserver.client.local.partial import PIECE_BYTES

MTIME_NS = 1_600_000_000_123_456_789


@pytest.fixture
def filled(root: Path) -> Path:
    """A tree of odd things, all of the same age."""
    tree = root / "tree"
    for name, content in {
        "a.txt": b"alpha",
        "empty": b"",
        "sub/b.pdf": b"beta",
        "sub/deep/c.pdf": b"gamma" * 1000,
        "sub/deep/.d": b"hidden",
        "with space/ü\n": b"delta",
        "big": os.urandom(PIECE_BYTES + 10),
    }.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tree / "none").mkdir()
    (tree / "a.txt").chmod(0o755)
    (tree / "link").symlink_to("sub")
    (tree / "twin").symlink_to("a.txt")
    for path in (*tree.rglob("*"), tree):
        os.utime(path, ns=(MTIME_NS, MTIME_NS), follow_symlinks=False)
    return tree


def content(tree: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(tree)): None if path.is_dir() else path.read_bytes()
        for path in tree.rglob("*")
        if not any(part.startswith(".") for part in path.relative_to(tree).parts)
    }


@pytest.mark.parametrize("connections", ["1", "3"])
def test_a_tree_arrives_with_its_directories_its_times_and_its_executables(get, filled, place, connections):
    result = get("-r", "-j", connections, "tree")
    assert (result.status, result.err) == (0, "")
    expected = content(filled)
    assert expected.pop("link") is None, "not followed"
    assert {name: each for name, each in expected.items() if not name.startswith("link/")} == content(place / "tree")
    for path in (place / "tree", *(place / "tree").rglob("*")):
        assert path.stat().st_mtime_ns == MTIME_NS
        executable = path.is_dir() or path.name in ("a.txt", "twin")
        assert bool(path.stat().st_mode & stat.S_IXUSR) == executable, path
    assert "1 directory behind a symbolic link left out" in result.out
    assert "7 files" in result.out


@pytest.mark.usefixtures("filled")
def test_a_manifest_has_every_file_of_a_tree_fetched_or_unchanged(get, place):
    first = get("-r", "tree", "--manifest", "A")
    assert (first.status, first.err) == (0, "")
    second = get("-r", "tree", "--manifest", "B")
    assert "unchanged" in second.out
    for path in ("A", "B"):
        checked = subprocess.run(
            ["sha256sum", "--check", "--strict", path], cwd=place, check=True, capture_output=True, text=True
        )
        assert checked.stdout.count(": OK\n") == 7
    assert get("--verify", "B").out == "7 files, all as in the list\n"
    (place / "tree" / "sub" / "b.pdf").write_bytes(b"other")
    assert get("--verify", "A").status == 6


def test_what_goes_with_one_file_takes_no_pattern(get, filled, place):
    (filled / "[x]").write_bytes(b"")
    assert get("-o", "mine", "tree/*.txt").status == 3
    assert get("-o", "mine", "tree/[x]").status == 0
    assert get("--checksum", hashlib.sha256(b"").hexdigest(), "tree/[x]").status == 0
    assert sorted(os.listdir(place)) == ["[x]", "mine"]


def test_a_second_run_moves_no_content_and_a_third_only_what_has_changed(get, server, filled, place):
    assert get("-r", "tree").status == 0
    before = len(server.log(" request=GET "))
    result = get("-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "unchanged" in result.out
    server.quiet()
    assert len(server.log(" request=GET ")) == before
    (filled / "sub" / "b.pdf").write_bytes(b"BETA")  # as long as it was
    (place / "tree" / "a.txt").write_bytes(b"damaged here")
    result = get("-r", "-v", "tree")
    assert result.status == 0
    server.quiet()
    assert len(server.log(" request=GET ")) == before + 2
    assert (place / "tree" / "sub" / "b.pdf").read_bytes() == b"BETA"
    assert (place / "tree" / "a.txt").read_bytes() == b"alpha"


@pytest.mark.usefixtures("filled")
def test_the_root_goes_into_the_directory_itself(get, place):
    assert get("-r", "/").status == 0
    assert (place / "tree" / "sub" / "b.pdf").read_bytes() == b"beta"
    assert (place / "hello.txt").exists()


@pytest.mark.usefixtures("filled")
def test_a_file_may_be_named_with_recursive_too(get, place):
    assert get("-r", "tree/a.txt").status == 0
    assert os.listdir(place) == ["a.txt"]


@pytest.mark.parametrize(
    ("pattern", "arrive"),
    [
        ("tree/*.txt", {"a.txt"}),
        ("tree/*", {"a.txt", "empty", "big", "twin"}),
        ("tree/**/*.pdf", {"sub/b.pdf", "sub/deep/c.pdf"}),
        ("tree/*/*.pdf", {"sub/b.pdf"}),
        ("*/a.tx[t]", {"tree/a.txt"}),
    ],
)
@pytest.mark.usefixtures("filled")
def test_a_pattern_fetches_the_files_it_matches(get, place, pattern, arrive):
    result = get(pattern)
    assert (result.status, result.err) == (0, "")
    assert {name for name, each in content(place).items() if each is not None} == arrive


@pytest.mark.usefixtures("filled")
def test_a_pattern_takes_whole_directories_only_with_recursive(get, place):
    assert get("-r", "tree/s*").status == 0
    assert content(place) == {
        "sub": None,
        "sub/b.pdf": b"beta",
        "sub/deep": None,
        "sub/deep/c.pdf": b"gamma" * 1000,
    }


@pytest.mark.usefixtures("filled")
def test_a_pattern_that_matches_nothing_is_not_found(get, place):
    result = get("tree/*.doc")
    assert (result.status, result.err) == (3, "fsget: tree/*.doc: matches nothing on the server\n")
    assert os.listdir(place) == []


@pytest.mark.parametrize("recursive", [[], ["-r"]])
def test_a_name_that_exists_is_no_pattern(get, root, place, recursive):
    (root / "a*").write_bytes(b"star")
    (root / "ab").write_bytes(b"other")
    assert get(*recursive, "a*").status == 0
    assert os.listdir(place) == ["a*"]


def test_in_an_fs_address_every_character_stands_for_itself(get, server, root, place):
    (root / "ab").write_bytes(b"other")
    assert get(f"fs://{server.host}:{server.port}/a*").status == 3
    assert os.listdir(place) == []


@pytest.mark.usefixtures("filled")
def test_include_and_exclude_choose_among_the_files(get, place):
    assert get("-r", "--include", "*.pdf", "--exclude", "deep", "tree").status == 0
    assert content(place) == {"tree": None, "tree/sub": None, "tree/sub/b.pdf": b"beta"}


@pytest.mark.usefixtures("filled")
def test_nothing_is_written_through_a_symbolic_link_that_lies_in_the_way(get, place, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (place / "tree").mkdir()
    (place / "tree" / "sub").symlink_to(outside)
    (place / "tree" / "a.txt").symlink_to(outside / "victim")
    result = get("-r", "tree")
    assert result.status == 7
    assert os.listdir(outside) == []
    assert "tree/sub: not a directory" in result.err
    assert not (place / "tree" / "a.txt").is_symlink(), "replaced, not followed"
    assert (place / "tree" / "big").exists(), "the others are fetched"


@pytest.mark.usefixtures("filled")
def test_a_file_in_the_place_of_a_directory_is_a_failure_and_the_others_are_fetched(get, place):
    (place / "tree").mkdir()
    (place / "tree" / "sub").write_text("mine")
    (place / "tree" / "empty").mkdir()
    result = get("-r", "tree")
    assert result.status == 7
    assert (place / "tree" / "sub").read_text() == "mine"
    assert (place / "tree" / "a.txt").read_bytes() == b"alpha"
    assert "tree/empty: is a directory, and is left as it is" in result.err


@pytest.mark.usefixtures("filled")
def test_json_has_an_object_for_every_file(get):
    first = get("-r", "--json", "tree").objects
    assert {each["status"] for each in first} == {"ok"}
    assert {each["path"] for each in first} >= {"tree/a.txt", "tree/sub/deep/c.pdf"}
    assert {each["status"] for each in get("-r", "--json", "tree").objects} == {"unchanged"}


def test_a_directory_that_does_not_exist_is_not_found(get, place):
    result = get("-r", "nothing")
    assert result.status == 3
    assert os.listdir(place) == []


def test_a_target_directory_that_is_not_there_is_told_before_anything_is_fetched(get, server, filled):
    result = get("-r", "-d", "missing", "tree")
    assert result.status == 7
    assert result.err == "fsget: tree: local file missing: no such directory\n"
    assert filled.exists()
    assert not server.log(" request=GET ")


@pytest.mark.parametrize("connections", ["1", "2"])
def test_an_interrupted_tree_says_how_to_go_on(begin, lying_server, says, place, connections):
    names = [b"/tree/%d" % number for number in range(100)]
    held = [says.ask, says.hold]
    server = lying_server([*listing(says, *names), says.ask, says.header(1) + b"x" + says.end(b"x"), says.hold], held)
    process = begin("-s", server.address, "-r", "-j", connections, "tree", stderr=subprocess.PIPE)
    deadline = time.monotonic() + 20
    # With two connections, either may be the one that answers, and any file the first that is asked for there.
    while not [path for path in place.glob("tree/*") if not path.name.startswith(".")]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert err == b"fsget: tree: interrupted; the same command goes on with what is missing\n"
    assert [path.read_bytes() for path in place.glob("tree/*")] == [b"x"]


# A server that lies.


def listing(says, *names: bytes, size: int = 1) -> list[Any]:
    lines = b"".join(b"file %s size=%d mtime=1624000000.000000000 mode=644 etag=e-1\n" % (name, size) for name in names)
    return [says.ask, says.directory, says.ask, says.directory + lines + b"FS1 END ok entries=%d\n" % len(names)]


@pytest.mark.parametrize("name", [b"/tree/../../escape", b"/tree/..", b"/other/x", b"/tree//x", b"/tree/./x", b"/tree"])
def test_a_listed_name_that_leads_out_of_the_directory_is_never_written(fsget, lying_server, says, place, name):
    server = lying_server([*listing(says, name), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert result.status == 6
    assert "it listed a name that is not in the directory" in result.err
    assert content(place.parent) == {"place": None, "place/tree": None}


def test_a_listed_name_that_is_kept_for_our_own_files_is_not_fetched(fsget, lying_server, says, place):
    server = lying_server([*listing(says, b"/tree/.fsget-x.part"), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert result.status == 7
    assert os.listdir(place / "tree") == []


def test_a_file_that_is_gone_since_it_was_listed_does_not_keep_the_others(fsget, lying_server, says, place):
    answers = says.not_found + says.header(1) + b"x" + says.end(b"x")
    server = lying_server([*listing(says, b"/tree/a", b"/tree/b"), says.ask, says.ask, answers])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, os.listdir(place / "tree")) == (3, ["b"])
    assert "fsget: tree/a: does not exist on the server" in result.err


def test_after_a_lost_connection_the_files_that_are_missing_are_asked_for_again(fsget, lying_server, says, place):
    file = says.header(1) + b"x" + says.end(b"x")
    names = [b"/tree/a", b"/tree/b", b"/tree/c"]
    server = lying_server(
        [*listing(says, *names), says.ask, says.ask, says.ask, file + file[:-3]], [says.ask, says.ask, file + file]
    )
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert sorted(os.listdir(place / "tree")) == ["a", "b", "c"]
    assert len(server.requests) == 2 + 3 + 2


def test_a_damaged_file_is_left_out_and_the_others_are_fetched(fsget, lying_server, says, place):
    good = says.header(1) + b"x" + says.end(b"x")
    bad = says.header(1) + b"y" + says.end(b"x")
    server = lying_server([*listing(says, b"/tree/a", b"/tree/b"), says.ask, says.ask, bad + good])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, os.listdir(place / "tree")) == (6, ["b"])
    assert "fsget: tree/a: the content arrived damaged" in result.err


def test_a_file_that_has_grown_since_it_was_listed_is_not_taken_for_what_it_was(fsget, lying_server, says, place):
    grown = says.header(PIECE_BYTES + 1) + bytes(PIECE_BYTES) + says.end(bytes(PIECE_BYTES))
    server = lying_server([*listing(says, b"/tree/a"), says.ask, grown, says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, os.listdir(place / "tree")) == (6, [])
    assert "has grown since it was listed" in result.err


def test_a_listing_that_breaks_off_is_asked_for_again(fsget, lying_server, says, place):
    *asked, whole = listing(says, b"/tree/a", b"/tree/b")
    file = says.header(1) + b"x" + says.end(b"x")
    server = lying_server([*asked, whole[: whole.index(b"FS1 END")]], [*asked[2:], whole, says.ask, says.ask, file * 2])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "2 files, 2 bytes" in result.out
    assert sorted(os.listdir(place / "tree")) == ["a", "b"]


def test_a_directory_the_server_cannot_read_to_its_end_is_a_failure_and_what_it_had_is_fetched(
    fsget, lying_server, says, place
):
    *asked, whole = listing(says, b"/tree/a")
    file = says.header(1) + b"x" + says.end(b"x")
    server = lying_server([*asked, whole.replace(b"END ok", b"END read-error"), says.ask, file])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, os.listdir(place / "tree")) == (6, ["a"])
    assert "the listing is not complete" in result.err


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"what?\n", id="garbage"),
        pytest.param(b"FS1 200 ok start=1 type=file size=1 mtime=1.000000000 mode=644 etag=e\n", id="no PID"),
        pytest.param(b"FS1 503 busy pid=1 start=1\n", id="busy"),
    ],
)
def test_a_server_that_answers_no_request_for_content_ends_the_run(fsget, lying_server, says, answer):
    names = [b"/tree/%d" % number for number in range(50)]
    server = lying_server([*listing(says, *names), says.ask, answer], *[[says.ask, answer]] * 3)
    result = fsget("-s", server.address, "-r", "tree", "--retries", "2")
    assert result.status in (4, 6)
    assert len(result.err.splitlines()) == 1
    assert len(server.requests) <= 5


def test_a_server_that_says_unchanged_without_being_asked_is_not_believed(fsget, lying_server, says, place):
    unchanged = b"FS1 304 unchanged %s type=file size=9000000 mtime=1624000000.000000000 mode=644 etag=e-1\n" % says.who
    for names in (["f"], ["-o", "-", "f"]):
        result = fsget("-s", lying_server([says.ask, unchanged]).address, *names)
        assert (result.status, result.out) == (6, "")
        assert "the server broke the protocol: unchanged, although nobody asked for changes" in result.err
    server = lying_server([*listing(says, b"/tree/a", size=9_000_000), says.ask, unchanged])
    assert fsget("-s", server.address, "-r", "tree").status == 6
    assert content(place) == {"tree": None}


@pytest.mark.parametrize("name", ["..", "x/..", ".", "a/.", "/.."])
def test_a_name_that_ends_in_dots_is_no_tree(fsget, place, name):
    result = fsget("-s", "127.0.0.1:1", "-r", name)
    assert result.status == 2
    assert "this names no directory" in " ".join(result.err.split())
    assert content(place.parent) == {"place": None}


def test_slashes_at_the_end_of_a_name_do_not_matter(get, filled, place):
    assert get("-r", "tree//").status == 0
    assert set(content(place)) >= {"tree/a.txt"}
    assert filled.name == "tree"


def test_what_lies_behind_a_link_of_the_server_is_not_deleted(get, root, place):
    (root / "t/real").mkdir(parents=True)
    (root / "t/real/x").write_text("x")
    (root / "t/link").symlink_to("real")
    (place / "t/link/deep").mkdir(parents=True)
    for name in ("t/link/x", "t/link/deep/y", "t/z"):
        (place / name).write_text("here")
    assert get("-r", "--delete", "--confirm-delete", "t").status == 0
    assert set(content(place)) == {"t", "t/link", "t/link/x", "t/link/deep", "t/link/deep/y", "t/real", "t/real/x"}


def test_a_filter_deletes_no_directory(get, root, place):
    (root / "t/kept.d").mkdir(parents=True)
    (root / "t/real").mkdir()
    (place / "t/kept.d").mkdir(parents=True)
    (place / "t/real").symlink_to("kept.d")
    (place / "t/old.d").write_text("a file")
    options = ("--delete", "--confirm-delete", "--include", "*.d", "--include", "rea*")
    assert get("-r", *options, "t").status == 0
    assert sorted(os.listdir(place / "t")) == ["kept.d", "real"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_many_connections_at_once_and_leaves_nothing(begin, serve, root, place, number):
    (root / "tree").mkdir()
    for each in range(300):
        (root / "tree" / str(each)).write_bytes(bytes(30_000))
    server = serve()
    options = ["-s", f"{server.host}:{server.port}", "-j", "16", "--limit-rate", "500K"]
    process = begin(*options, "-r", "tree", stderr=subprocess.PIPE)
    while len(list(place.glob("tree/*"))) < 5:
        time.sleep(0.01)
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(20) == -number
    assert time.monotonic() - started < 3
    assert [path.name for path in place.rglob(".fsget-*")] == []


def test_a_killed_run_leaves_no_process_of_the_server_waiting(begin, serve, root, place):
    (root / "tree").mkdir()
    for each in range(300):
        (root / "tree" / str(each)).write_bytes(bytes(30_000))
    server = serve()
    process = begin("-s", f"{server.host}:{server.port}", "-j", "16", "--limit-rate", "500K", "-r", "tree")
    while len(list(place.glob("tree/*"))) < 5:
        time.sleep(0.01)
    process.kill()
    process.wait(20)
    server.quiet()


def test_a_signal_ends_connections_that_wait_for_a_silent_server(begin, lying_server, says, place):
    names = [b"/tree/%d" % number for number in range(3000)]
    server = lying_server([*listing(says, *names), says.ask, says.hold], *[[says.ask, says.hold]] * 31)
    process = begin("-s", server.address, "-j", "32", "-r", "tree", stderr=subprocess.PIPE)
    while len(server.requests) < 3:
        time.sleep(0.01)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == -signal.SIGINT
    assert time.monotonic() - started < 3
    assert content(place) == {"tree": None}
