"""Small files that come with their listing, from an honest server, from one that lies, and over a lost connection."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

MANY = 400


@pytest.fixture
def filled(root: Path) -> Path:
    """A tree, most of it small."""
    for number in range(MANY):
        path = root / "tree" / str(number % 7) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(str(number).encode() * 20)
    (root / "tree" / "large").write_bytes(os.urandom(100_000))
    (root / "tree" / "twin").symlink_to("0/0")
    return root / "tree"


@pytest.fixture
def heavy(root: Path) -> Path:
    """A tree of small files that finds no place in the buffers between server and client."""
    for number in range(MANY):
        path = root / "tree" / str(number % 7) / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(number.to_bytes(2) * 8000)
    return root / "tree"


def files(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def asked(server) -> list[str]:
    """What the server was asked for, by its log."""
    return [match[1] for line in server.log(" end ") if (match := re.search(r"request=(\w+)", line))]


def test_a_new_tree_comes_in_one_stream_and_what_is_large_by_itself(get, server, filled, place, sha256sum):
    result = get("-r", "--manifest", "sums", "tree")
    assert (result.status, result.err) == (0, "")
    assert f"{MANY + 2} files" in result.out
    assert files(place / "tree") == files(filled)
    assert sha256sum(place, "--check", "--quiet", "sums").returncode == 0
    server.wait_for(" request=GET ", 2)
    assert sorted(asked(server)) == ["GET", "GET", "LIST", "STAT"]


def test_the_root_comes_so_into_an_empty_directory_and_a_pattern_for_all(get, server, filled, place):
    for number, name in enumerate(("/", "tree/**", "tree/*"), 1):
        (place / str(number)).mkdir()
        options = ["-r"] if name != "tree/**" else []
        assert get(*options, "-d", str(number), name).status == 0
    assert files(place / "1" / "tree") == files(place / "2") == files(place / "3") == files(filled)
    server.wait_for(" request=GET ", 6)
    assert asked(server).count("GET") == 6


def test_a_tree_that_is_here_moves_only_what_is_missing(get, server, filled, place):
    assert get("-r", "tree").status == 0
    (place / "tree" / "0" / "0").unlink()
    result = get("-r", "tree")
    assert f"{MANY + 2} files" in result.out
    assert f"{MANY + 1} of them unchanged" in result.out
    assert files(place / "tree") == files(filled)
    server.wait_for(" request=GET path=/tree/0/0 ")
    first, second = (int(re.findall(r" sent=(\d+) ", line)[0]) for line in server.log(" request=LIST "))
    small = sum(len(content) for content in files(filled).values() if len(content) < 100_000)
    assert second < first - small


def test_a_server_that_carries_nothing_gives_the_same_tree(fsget, serve, filled, place, tmp_path):
    (tmp_path / "forkserver.toml").write_text("listing_content_bytes = 0\n")
    server = serve("--config", str(tmp_path / "forkserver.toml"))
    assert fsget("-s", f"{server.host}:{server.port}", "-r", "tree").status == 0
    assert files(place / "tree") == files(filled)
    server.wait_for(" request=GET ", MANY + 2)


def test_a_dry_run_moves_no_content(get, server, filled, place):
    assert get("-r", "-n", "tree").status == 0
    line = server.wait_for(" request=LIST ")
    assert int(re.findall(r"sent=(\d+)", line)[0]) < sum(map(len, files(filled).values()))
    assert os.listdir(place) == []


def test_a_child_killed_in_the_middle_costs_no_file_and_none_twice(begin, server, heavy, place):
    options = ["-s", f"{server.host}:{server.port}", "--limit-rate", "3M", "-r", "--json"]
    run = begin(*options, "tree", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while len(list(place.glob("tree/*/*"))) < 20:
        time.sleep(0.01)
    (child,) = server.children()
    os.kill(child, signal.SIGKILL)
    server.wait_for(f" died pid={child} ")
    out, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (0, b"")
    assert files(place / "tree") == files(heavy)
    told = re.findall(rb'"name": ?"([^"]+)"', out)
    assert len(told) == len(set(told))
    assert len(told) == MANY
    server.quiet()  # all lines are written
    assert asked(server).count("LIST") == 1, "the first was not answered to its end"
    assert 0 < asked(server).count("GET") < MANY


def test_an_interrupted_run_leaves_whole_files_and_the_next_fetches_the_rest(begin, get, server, heavy, place):
    options = ["-s", f"{server.host}:{server.port}", "--limit-rate", "3M", "-r"]
    run = begin(*options, "tree", stderr=subprocess.PIPE)
    while len(list(place.glob("tree/*/*"))) < 20:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=20)
    assert run.returncode == -signal.SIGINT
    assert err == b"fsget: tree: interrupted; the same command goes on with what is missing\n"
    assert files(place / "tree").items() < files(heavy).items()
    assert get("-r", "tree").status == 0
    assert files(place / "tree") == files(heavy)


# A server that lies.


def enclosed(name: bytes, content: bytes, *, size: int | None = None, digest: str | None = None) -> bytes:
    digest = hashlib.sha256(content).hexdigest() if digest is None else digest
    head = f"size={len(content) if size is None else size} mtime=1624000000.000000000 mode=755 etag=e-1"
    return b"file %s %s length=%d digest=sha256:%s\n%s" % (name, head.encode(), len(content), digest.encode(), content)


def listing(says, *entries: bytes, end: bytes | None = None) -> list[bytes | str]:
    end = b"FS1 END ok entries=%d\n" % len(entries) if end is None else end
    return [says.ask, says.directory, says.ask, says.directory + b"".join(entries) + end]


@pytest.mark.parametrize("options", [("--include", "a"), ("--exclude", "b"), ("-n",), ("-j", "2")])
def test_no_content_is_asked_for_where_not_all_is_wanted_or_several_connections_share_it(
    fsget, lying_server, says, options
):
    server = lying_server([*listing(says), says.hold])
    assert fsget("-s", server.address, "-r", *options, "tree").status == 0
    assert server.requests == [b"STAT /tree\n", b"LIST /tree recursive=1\n"]


def test_a_content_with_a_wrong_digest_is_left_out_and_the_others_are_kept(fsget, lying_server, says, place):
    entries = [enclosed(b"/tree/a", b"x"), enclosed(b"/tree/b", b"y", digest="0" * 64), enclosed(b"/tree/c", b"z")]
    server = lying_server([*listing(says, *entries), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert result.status == 6
    assert result.err == (
        "fsget: tree/b: the content arrived damaged: its sha256 is not the one the server sent (served by PID 4711)\n"
    )
    assert files(place) == {"tree/a": b"x", "tree/c": b"z"}
    assert server.requests == [b"STAT /tree\n", b"LIST /tree content=16384 digest=sha256 recursive=1\n"]
    assert (place / "tree" / "a").stat().st_mode & 0o111
    assert (place / "tree" / "a").stat().st_mtime == 1624000000


@pytest.mark.parametrize(
    "entry",
    [
        enclosed(b"/tree/a", b"xy", size=3),
        enclosed(b"/tree/a", b"xy", size=1),
        enclosed(b"/tree/a", b"xy").replace(b" etag=e-1", b""),
        enclosed(b"/tree/a", b"xy").replace(b"file ", b"dir ", 1),
        enclosed(b"/tree/a", b"x" * 16385),
        enclosed(b"/tree/a", b"xy").replace(b"length=2", b"length=-2"),
        enclosed(b"/tree/a", b"xy").replace(b"length=2", b"length=1"),
        enclosed(b"/tree/a", b"xy").replace(b"length=2", b"length=3"),
        enclosed(b"/tree/../a", b"xy"),
        enclosed(b"/a", b"xy"),
        enclosed(b"/tree/a%00", b"xy"),
    ],
)
def test_a_content_that_is_not_what_its_entry_says_breaks_the_protocol(fsget, lying_server, says, place, entry):
    server = lying_server([*listing(says, entry), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert result.status == 6
    assert len(result.err.splitlines()) == 1
    assert "the server broke the protocol" in result.err
    assert files(place.parent) == {}


def test_a_content_without_a_digest_is_not_believed(fsget, lying_server, says, place):
    entry = enclosed(b"/tree/a", b"x").replace(b" digest=sha256:" + hashlib.sha256(b"x").hexdigest().encode(), b"")
    server = lying_server([*listing(says, entry), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, files(place)) == (6, {})
    assert "the server sent no sha256 with the content" in result.err


def test_a_content_under_a_name_that_is_kept_for_our_own_files_is_not_written(fsget, lying_server, says, place):
    names = (b"/tree/.fsget-x.part", b"/tree/.fsget-d/x", b"/tree/x")
    server = lying_server([*listing(says, *(enclosed(name, b"x") for name in names)), says.hold])
    assert fsget("-s", server.address, "-r", "tree").status == 7
    assert files(place) == {"tree/x": b"x"}


def test_a_file_and_a_directory_of_one_name_are_no_way_out_of_the_tree(fsget, lying_server, says, place):
    entries = [
        enclosed(b"/tree/a", b"file"),
        enclosed(b"/tree/a/b", b"beneath a file"),
        b"dir /tree/d mtime=1.000000000 mode=755\n",
        enclosed(b"/tree/d", b"in the place of a directory"),
    ]
    server = lying_server([*listing(says, *entries), says.hold])
    result = fsget("-s", server.address, "-r", "tree")
    assert result.status == 7
    assert len(result.err.splitlines()) == 2
    assert files(place) == {"tree/a": b"file"}
    assert (place / "tree" / "d").is_dir()


def test_a_full_disk_ends_it_and_leaves_whole_files_only(fsget, lying_server, says, tiny_disk):
    entries = [enclosed(b"/tree/%d" % number, bytes([number]) * 16000) for number in range(20)]
    server = lying_server([*listing(says, *entries), says.hold])
    result = fsget("-s", server.address, "-d", str(tiny_disk), "-r", "tree")
    assert result.status == 7
    assert "no space left on the device" in result.err
    here = files(tiny_disk)
    assert 0 < len(here) < 20
    assert all(here[f"tree/{number}"] == bytes([number]) * 16000 for number in range(len(here)))


@pytest.mark.parametrize("cut", [1, 15, 30], ids=["in a content", "in a line", "in the first content"])
def test_after_a_lost_connection_everything_is_listed_again_and_the_rest_asked_for(
    fsget, lying_server, says, place, cut
):
    first, second = enclosed(b"/tree/a", b"x" * 25), enclosed(b"/tree/b", b"y")
    broken = (first + second)[: -cut if cut < 30 else len(first) - 5]
    plain = b"".join(
        b"file %s size=%d mtime=1624000000.000000000 mode=755 etag=e-1\n" % entry
        for entry in ((b"/tree/a", 25), (b"/tree/b", 1))
    )
    missing = [(b"x" * 25, b"y"), (b"y",)][cut < 30]
    answers = b"".join(says.header(len(content)) + content + says.end(content) for content in missing)
    again = [says.ask, says.directory + plain + b"FS1 END ok entries=2\n", *[says.ask] * len(missing), answers]
    server = lying_server([*listing(says, broken, end=b"")], again)
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "2 files, 26 bytes" in result.out
    assert files(place) == {"tree/a": b"x" * 25, "tree/b": b"y"}
    assert server.requests[2] == b"LIST /tree recursive=1\n"
    assert len(server.requests) == 3 + len(missing)


def test_what_was_told_before_a_connection_was_lost_is_not_told_again(fsget, lying_server, says, place, sha256sum):
    told = [
        enclosed(b"/tree/a", b"as it was"),
        enclosed(b"/tree/bad", b"x", digest="0" * 64),
        b"dir /tree/closed mtime=1.000000000 mode=700 error=forbidden\n",
        b"dir /tree/link mtime=1.000000000 mode=755 link=1\n",
    ]
    plain = b"file /tree/a size=11 mtime=1624000001.000000000 mode=644 etag=e-2\n"
    plain += b"file /tree/bad size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"
    again = [says.ask, says.directory + plain + b"".join(told[2:]) + b"FS1 END ok entries=4\n", says.hold]
    server = lying_server([*listing(says, *told, end=b"file /tree/b")], again)
    result = fsget("-s", server.address, "-r", "--manifest", "sums", "tree")
    assert result.status == 6
    assert len(result.err.splitlines()) == 2
    assert "1 file, 9 bytes, " in result.out
    assert "1 directory behind a symbolic link left out, 2 failed" in result.out
    assert files(place / "tree") == {"a": b"as it was"}
    assert sha256sum(place, "--check", "--quiet", "sums").returncode == 0
    assert len((place / "sums").read_text().splitlines()) == 1


def test_after_a_lost_server_the_other_is_asked_only_for_what_is_missing(fsget, lying_server, says, place):
    first = lying_server([*listing(says, enclosed(b"/tree/a", b"x"), end=b"file /tree/b")])
    of_another = b"file /tree/%c size=1 mtime=1624000000.000000000 mode=644 etag=other-%c\n"
    entries = b"".join(of_another % (char, char) for char in b"ab")
    file = says.header(1, etag="other-b") + b"y" + says.end(b"y")
    second = lying_server([says.ask, says.directory + entries + b"FS1 END ok entries=2\n", says.ask, file])
    result = fsget("-s", first.address, "-s", second.address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "2 files, 2 bytes, " in result.out
    assert files(place / "tree") == {"a": b"x", "b": b"y"}
    assert second.requests[1].startswith(b"GET /tree/b ")


def test_a_server_that_knows_no_contents_in_listings_is_asked_without(fsget, lying_server, says, place):
    refused = b'FS1 400 bad-request %s message="unknown field for this verb"\n' % says.who
    entry = b"file /tree/a size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"
    again = [says.ask, says.directory + entry + b"FS1 END ok entries=1\n", *says.file(b"x")]
    server = lying_server([says.ask, says.directory, says.ask, refused], again)
    result = fsget("-s", server.address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert files(place / "tree") == {"a": b"x"}
    assert server.requests[2] == b"LIST /tree recursive=1\n"


def test_no_content_is_asked_for_where_the_target_is_a_link(fsget, lying_server, says, place):
    (place / "elsewhere").mkdir()
    (place / "tree").symlink_to("elsewhere")
    server = lying_server([*listing(says), says.hold])
    assert fsget("-s", server.address, "-r", "tree").status == 7
    assert server.requests[1] == b"LIST /tree recursive=1\n"
    assert os.listdir(place / "elsewhere") == []


def test_a_listing_that_always_breaks_off_ends_the_run_after_the_retries(fsget, lying_server, says, place):
    entry = enclosed(b"/tree/a", b"x")
    again = [says.ask, says.directory + b"file /tree/a size=1 mtime=1624000000.000000000 mode=755 etag=e-1\n"]
    server = lying_server([*listing(says, entry, end=b"")], again, again, again, again)
    result = fsget("-s", server.address, "--retries", "2", "-r", "tree")
    assert (result.status, files(place)) == (5, {"tree/a": b"x"})
    assert len(server.requests) == 4


def test_a_server_that_stops_in_the_middle_is_not_waited_for_for_ever(fsget, lying_server, says, place):
    entry = enclosed(b"/tree/a", b"x")
    script = [*listing(says, entry, end=enclosed(b"/tree/b", b"yyyy")[:-1]), says.hold]
    server = lying_server(script, [says.ask, says.hold])
    result = fsget("-s", server.address, "--timeout", "0.3", "--retries", "1", "-r", "tree")
    assert (result.status, files(place)) == (5, {"tree/a": b"x"})


def test_a_server_that_is_being_stopped_is_asked_again(fsget, lying_server, says, place):
    again = [says.ask, says.directory + b"FS1 END ok entries=0\n", says.hold]
    server = lying_server([*listing(says, enclosed(b"/tree/a", b"x"), end=b"FS1 END draining entries=1\n")], again)
    assert fsget("-s", server.address, "-r", "tree").status == 0
    assert files(place) == {"tree/a": b"x"}
