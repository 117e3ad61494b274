"""Names from a list, dry runs, deletion of what is not there any more, names that clash, and a bounded rate."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import time

import pytest

LONG = pytest.mark.skipif("FORKSERVER_LONG" not in os.environ, reason="takes long: set FORKSERVER_LONG=1 to have it")


@pytest.fixture
def get(fsget, serve, root):
    for name in ("a", "b c", "sub/d", "tree/x", "tree/inner/y"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    server = serve()
    return functools.partial(fsget, "-s", f"{server.host}:{server.port}")


def described(says) -> bytes:
    """The answer to a STAT."""
    line = says.header(1)
    return line[: line.index(b" offset=")] + b"\n"


def files(place) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir())


@pytest.mark.parametrize(("end", "options"), [("\n", ()), ("\0", ("-0",))], ids=["lines", "NULs"])
def test_names_come_from_a_file(get, place, tmp_path, end, options):
    (tmp_path / "names").write_text(end.join(["a", "", "b c", "/sub/d"]))
    result = get("-i", str(tmp_path / "names"), *options)
    assert (result.status, result.err) == (0, "")
    assert files(place) == ["a", "b c", "sub/d"]


def test_names_come_from_standard_input_and_from_the_command_line(get, place):
    result = get("-i", "-", "a", stdin=None, input=b"b c\n")
    assert (result.status, result.err) == (0, "")
    assert files(place) == ["a", "b c"]


def test_several_lists_are_read_one_after_the_other(get, place, tmp_path):
    (tmp_path / "first").write_text("a\n")
    result = get("-i", str(tmp_path / "first"), "-i", "-", stdin=None, input=b"b c\nsub/d\n")
    assert (result.status, result.err) == (0, "")
    assert files(place) == ["a", "b c", "sub/d"]


@pytest.mark.parametrize(
    ("names", "how", "complaint"),
    [
        (b"a\0b c\0", (), "its names end in NUL; read them with --null (-0)"),
        (b"a\nb c\n", ("-0",), "no name ends in NUL; read lines without --null (-0)"),
    ],
)
def test_a_list_of_the_other_kind_is_told_with_the_remedy(get, place, names, how, complaint):
    result = get("-i", "-", *how, stdin=None, input=names)
    assert (result.status, result.err) == (2, f"fsget: standard input: {complaint}\n")
    assert files(place) == []


def test_a_name_of_a_list_that_is_missing_does_not_end_the_run(get, place):
    result = get("-i", "-", stdin=None, input=b"a\nmissing\nsub/d\n")
    assert result.status == 3
    assert "fsget: missing: does not exist on the server" in result.err
    assert files(place) == ["a", "sub/d"]


def test_names_that_come_together_are_asked_for_together(fsget, lying_server, says, place):
    stat = described(says)
    names = [f"n{number}" for number in range(10)]
    # Nothing is answered before all was asked.
    server = lying_server([says.ask] * 10 + [stat] * 10 + [says.ask] * 10 + [says.file(b"x")[1]] * 10)
    result = fsget("-s", server.address, "-i", "-", stdin=None, input=("\n".join(names) + "\n").encode())
    assert (result.status, result.err) == (0, "")
    assert [line.split(":")[0] for line in result.out.splitlines()] == names
    assert [request.split()[:2] for request in server.requests] == [
        [verb, b"/" + name.encode()] for verb in (b"STAT", b"GET") for name in names
    ]
    assert files(place) == names


@pytest.mark.parametrize("connections", ["1", "3"])
def test_of_names_that_come_together_each_is_told_as_if_it_were_the_only_one(get, place, root, sha256sum, connections):
    (root / "big").write_bytes(os.urandom(9_000_000))
    names = ["a", "missing", "b c", "tree", "big", "/sub/d", "a", *(f"many/{number}" for number in range(200))]
    (root / "many").mkdir()
    for number in range(200):
        (root / "many" / str(number)).write_bytes(b"%d" % number)
    result = get(
        "-j", connections, "--manifest", "SUMS", "-i", "-", stdin=None, input=("\n".join(names) + "\n").encode()
    )
    assert result.status == 4
    assert "fsget: missing: does not exist on the server" in result.err
    assert "fsget: tree: is a directory" in result.err
    told = sorted(line.split(":")[0] for line in result.out.splitlines())
    assert told == sorted(["a", "a", "b c", "big", "/sub/d", *(f"many/{number}" for number in range(200))])
    assert (place / "big").read_bytes() == (root / "big").read_bytes()
    assert all((place / "many" / str(number)).read_bytes() == b"%d" % number for number in range(200))
    checked = sha256sum(place, "-c", "--strict", "SUMS")
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, 204)
    again = get("-i", "-", stdin=None, input=b"a\nbig\nb c\n")
    assert again.out.count("unchanged, nothing fetched") == 3


@pytest.mark.parametrize("how", [(), ("-n",)], ids=["fetched", "planned"])
def test_a_name_that_a_list_has_several_times_is_told_each_time(get, place, how):
    names = ["a", "./a", "/a", "a", "missing", "./missing"]
    result = get(*how, "--json", "-i", "-", stdin=None, input=("\n".join(names) + "\n").encode())
    assert result.status == 3
    done = "would-fetch" if how else "ok"
    assert sorted((each["name"], each["status"]) for each in result.objects) == [
        ("./a", done),
        ("./missing", "not-found"),
        ("/a", done),
        ("a", done),
        ("a", done),
        ("missing", "not-found"),
    ]
    assert files(place) == ([] if how else ["a"])


def test_of_names_that_come_together_each_is_told_where_nothing_can_be_fetched(fsget, place):
    result = fsget("-s", "127.0.0.1:1", "--retries", "0", "-i", "-", "--json", stdin=None, input=b"a\nb\n")
    assert result.status == 5
    assert [(each["name"], each["status"]) for each in result.objects] == [("a", "unreachable"), ("b", "unreachable")]
    told = "fsget: a: 127.0.0.1:1 refused the connection: nothing listens there\n"
    assert result.err == told
    result = fsget("-s", "127.0.0.1:1", "--retries", "0", "-i", "-", stdin=None, input=b"a\nb\n")
    assert (result.status, result.err) == (5, told + "fsget: 1 file not tried, for the same reason\n")
    assert files(place) == []


def test_names_are_fetched_while_further_ones_are_still_to_come(begin, serve, root, place):
    (root / "a").write_text("a")
    (root / "b").write_text("b")
    server = serve()
    process = begin("-s", f"{server.host}:{server.port}", "-i", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for name in (b"a", b"b"):
        process.stdin.write(name + b"\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(name + b": 1 byte")
    process.stdin.close()
    assert process.wait() == 0
    assert files(place) == ["a", "b"]


def test_a_connection_that_is_lost_in_the_middle_of_a_list_is_made_again(fsget, lying_server, says, place):
    stat = described(says)
    first = [says.ask] * 3 + [stat]
    second = [says.ask] * 2 + [stat] * 2 + [says.ask] * 3 + [says.file(b"x")[1]]
    third = [says.ask] * 2 + [says.file(b"y")[1], says.file(b"z")[1]]
    server = lying_server(first, second, third)
    result = fsget("-s", server.address, "-i", "-", stdin=None, input=b"a\nb\nc\n")
    assert (result.status, result.err) == (0, "")
    assert [(place / name).read_text() for name in "abc"] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        (b"a\n..\n", "standard input, name 2: ..: this names no file"),
        (b"a\nsub/../d\n", "standard input, name 2: sub/../d: a part of the name is empty, . or .."),
        (b"a\nsub//d\n", "standard input, name 2: sub//d: a part of the name is empty, . or .."),
        (b"\xff" * 20000, "standard input: is no list of names"),
    ],
)
def test_a_list_that_is_wrong_is_told_by_its_place(get, names, complaint):
    result = get("-i", "-", stdin=None, input=names)
    assert result.status == 2
    assert complaint in result.err


def test_a_list_that_is_not_there_is_told(get):
    result = get("-i", "none")
    assert (result.status, result.err) == (2, "fsget: none: cannot be read: No such file or directory\n")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("-0", "a"), "--null goes with --names-from"),
        (("-i", "-", "-o", "x"), "--names-from does not go with"),
        (("-r", "--delete", "tree"), "add --dry-run to see which, --confirm-delete to do it"),
        (("--delete", "--confirm-delete", "a"), "--delete goes with --recursive and a NAME"),
        (("-r", "--delete", "-n", "/"), "--delete is for a directory that is named"),
        (("-r", "--delete", "-n", "t*"), "--delete is for a directory that is named"),
        (("--confirm-delete", "-r", "tree"), "--confirm-delete goes with --delete"),
        (("--list", "--include", "*.txt", "tree"), "--include and --exclude are for fetching, and not for --list"),
        (("-n", "-o", "x", "a"), "--dry-run goes with fetching under the files' own names"),
        (("--limit-rate", "5", "a"), "must be bytes a second, 1024 at least, as 500K or 2.5M"),
        (("--limit-rate", "fast", "a"), "must be bytes a second, 1024 at least, as 500K or 2.5M"),
        (("-r", "tree", "sub/../tree"), "fetch one only"),
        (("a", "a"), "a and a would become the same local file or directory; fetch one only, or both to their --paths"),
    ],
)
def test_options_that_do_not_go_together_are_told(fsget, arguments, complaint):
    result = fsget(*arguments)
    assert result.status == 2
    assert complaint in " ".join(result.err.split())


def test_a_dry_run_tells_what_would_be_fetched_and_makes_nothing(get, place):
    result = get("-n", "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "tree/x: 6 bytes, would be fetched" in result.out
    assert "2 files with 18 bytes would be fetched" in result.out
    assert os.listdir(place) == []
    assert get("-r", "tree").status == 0
    again = get("-n", "-r", "tree", "--json")
    assert {each["status"] for each in again.objects} == {"unchanged"}


def test_a_dry_run_of_one_file_asks_whether_it_is_there(get, place):
    assert "a: 1 byte, would be fetched" in get("-n", "a").out
    assert get("-n", "missing").status == 3
    assert get("-n", "tree").status == 4
    assert os.listdir(place) == []


def test_what_the_server_does_not_have_is_deleted_when_that_is_confirmed(get, place, tmp_path):
    assert get("-r", "tree").status == 0
    (tmp_path / "outside").write_text("stays")
    for name in ("old", "gone/old", "inner/old", ".hidden", "half/.hidden", "half/old"):
        (place / "tree" / name).parent.mkdir(exist_ok=True)
        (place / "tree" / name).write_text("old")
    (place / "tree/link").symlink_to(tmp_path)
    (place / "other").write_text("not of this tree")
    dry = get("-r", "--delete", "-n", "tree")
    assert dry.status == 0
    assert "tree/gone/old: would be deleted" in dry.out
    assert (place / "tree/old").exists()
    result = get("-r", "--delete", "--confirm-delete", "tree")
    assert (result.status, result.err) == (0, "")
    assert "deleted here" in result.out
    assert files(place) == ["other", "tree/.hidden", "tree/half/.hidden", "tree/inner/y", "tree/x"]
    assert not (place / "tree/gone").exists()
    assert (tmp_path / "outside").read_text() == "stays"


def test_what_is_excluded_is_not_deleted(get, place):
    (place / "tree/keep").mkdir(parents=True)
    (place / "tree/keep/old").write_text("mine")
    (place / "tree/old.log").write_text("mine")
    (place / "tree/old.txt").write_text("old")
    result = get("-r", "--delete", "--confirm-delete", "--exclude", "*.log", "--exclude", "keep", "tree")
    assert (result.status, result.err) == (0, "")
    assert files(place) == ["tree/inner/y", "tree/keep/old", "tree/old.log", "tree/x"]


def test_a_dry_run_names_what_would_be_deleted_and_nothing_else(get, place, tmp_path):
    assert get("-r", "tree").status == 0
    (tmp_path / "elsewhere").mkdir()
    for name in ("old", "gone/old", "deep/er/old", "half/.hidden", "half/old", "deep2/half/.hidden"):
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "tree" / name).write_text("old")
    (place / "tree/link").symlink_to(tmp_path / "elsewhere")

    def told(*options: str) -> set[str]:
        result = get("-r", "--delete", *options, "--json", "tree")
        assert result.status == 0
        return {each["name"] for each in result.objects if each["status"] in ("deleted", "would-delete")}

    planned = told("-n")
    assert planned == told("--confirm-delete")
    assert planned == {
        *("tree/old", "tree/gone", "tree/gone/old", "tree/deep", "tree/deep/er", "tree/deep/er/old"),
        *("tree/half/old", "tree/link"),
    }


def test_nothing_is_deleted_after_a_failure(get, place):
    (place / "tree/x").mkdir(parents=True)
    (place / "tree/old").write_text("old")
    assert get("-r", "--delete", "--confirm-delete", "tree").status == 7
    assert (place / "tree/old").exists()


def test_two_files_with_one_local_name_are_told_and_the_first_stays(get, place, root):
    (root / "sub/inner").mkdir()
    (root / "sub/inner/y").write_text("another")
    result = get("-r", "tree/*", "sub/*")
    assert result.status == 7
    assert "another file of this run has this name" in result.err
    assert (place / "inner/y").read_text() == "tree/inner/y"


def test_files_of_two_patterns_with_one_local_name_are_told(get, place, root):
    (root / "sub/x").write_text("another")
    result = get("tree/*", "sub/*")
    assert result.status == 7
    assert "another file of this run has this name" in result.err
    assert (place / "x").read_text() == "tree/x"
    assert (place / "d").read_text() == "sub/d"


@pytest.fixture
def folding(tmp_path):
    """A directory in which names that differ only in case are the same."""
    if os.geteuid() != 0:
        pytest.skip("mounts a file system: needs root")
    path = tmp_path / "folding"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "casefold", "none", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no file system here that folds case")
    try:
        (path / "in").mkdir()
        subprocess.run(["chattr", "+F", path / "in"], check=True, capture_output=True)
        yield path / "in"
    finally:
        subprocess.run(["umount", path], check=True)


def test_names_that_differ_only_in_case_are_told_where_they_are_the_same(get, root, folding):
    (root / "tree/X").write_text("the other")
    result = get("-r", "-d", str(folding), "tree")
    assert result.status == 7
    assert "or differs from it only in case, which is the same here" in result.err
    assert len(os.listdir(folding / "tree")) == 2


def test_a_rate_is_kept(get, root, place):
    (root / "large").write_bytes(os.urandom(300_000))
    started = time.monotonic()
    result = get("--limit-rate", "200K", "large")
    assert (result.status, result.err) == (0, "")
    # Half a second's worth may come at once.
    assert time.monotonic() - started > 300_000 / 204_800 - 0.5 - 0.1
    assert (place / "large").read_bytes() == (root / "large").read_bytes()


@pytest.fixture
def tiny_temporary(tiny_disk, environment) -> dict[str, str]:
    """An environment whose directory for temporary files has hardly any space."""
    return environment | {"TMPDIR": str(tiny_disk)}


# A tree has its files in the directory for temporary files, and a deletion all names.
@pytest.mark.parametrize("kind", [b"file", b"dir"])
def test_a_listing_that_finds_no_place_is_told(fsget, lying_server, says, tiny_temporary, kind):
    entry = kind + b" /tree/%07d size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"
    block = b"".join(entry % number for number in range(120_000))
    server = lying_server([says.ask, says.directory, says.ask, says.directory, block, says.hold])
    result = fsget("-s", server.address, "-r", "-n", "--delete", "tree", env=tiny_temporary)
    assert result.status == 7, result.err
    assert "finds no place in the directory for temporary files (No space left on device)" in result.err


# Not by wait4(2): that counts the memory of who forked, too.
TELLING_ITS_MEMORY = """
import atexit, pathlib, sys
from forkserver.client.command.cli import main
status = pathlib.Path("/proc/self/status")
atexit.register(lambda: print(status.read_text().split("VmHWM:")[1].split()[0], file=sys.stderr))
main()
"""


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "run",
    [
        (100_000,),
        (220_000, "--delete"),
        pytest.param((1_000_000,), marks=LONG),
        pytest.param((1_000_000, "--delete"), marks=LONG),
    ],
    ids=str,
)
def test_a_listing_of_a_million_files_takes_little_memory(environment, lying_server, says, place, run):
    count, *options = run
    entry = b"file /tree/%07d size=1 mtime=1624000000.000000000 mode=644 etag=e-1\n"
    block = b"".join(entry % number for number in range(10_000))
    blocks = (block.replace(b"/tree/0", b"/tree/%d" % number) for number in range(count // 10_000))
    end = b"FS1 END ok entries=%d\n" % count
    server = lying_server([says.ask, says.directory, says.ask, says.directory, *blocks, end, says.hold])
    command = [sys.executable, "-c", TELLING_ITS_MEMORY, "-s", server.address, "-n", "-q", "-r", *options, "tree"]
    finished = subprocess.run(command, cwd=place, env=environment, capture_output=True, check=False)
    assert finished.returncode == 0
    assert int(finished.stderr) < 60 * 1024, "KiB"
    assert os.listdir(place) == []


def test_a_pattern_where_none_is_taken_is_told(get):
    for options in (("--list",), ("--stat",), ("-o", "x")):
        result = get(*options, "t*")
        assert result.status == 3
        assert "patterns are for fetching by a plain NAME" in result.err


def test_the_worst_of_a_list_that_is_wrong_in_the_end_is_the_run_s(get, place):
    result = get("-i", "-", stdin=None, input=b"a\nmissing\na/..\n")
    assert result.status == 3
    assert "standard input, name 3: a/..: this names no file" in result.err
    assert files(place) == ["a"]


def test_a_name_of_a_list_that_is_kept_for_what_is_not_complete_is_told(fsget, lying_server, says, place):
    # Both answers at once: the second is here to its end when it is taken.
    answers = says.file(b"x")[1] * 2
    server = lying_server([says.ask] * 2 + [described(says)] * 2 + [says.ask] * 2 + [answers])
    result = fsget("-s", server.address, "-i", "-", stdin=None, input=b"b\n.fsget-a.part\n")
    assert result.status == 7
    assert "names that begin with .fsget- are kept for what is not complete" in result.err
    assert files(place) == ["b"]
