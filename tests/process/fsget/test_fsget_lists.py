"""Names from a list keep their paths, and what is wrong with one name costs only that name."""

from __future__ import annotations

import functools
import os
import subprocess

import pytest

from forkserver.client.local.partial import PIECE_BYTES


@pytest.fixture
def found(root) -> list[str]:
    """404 names as find(1) writes them, with equal last parts in many directories."""
    for number in range(101):
        for name in ("README", "data.txt", "src/main.c", "src/deep/README"):
            path = root / "find" / f"d{number}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number} {name}")
    names = subprocess.run(["find", ".", "-type", "f"], cwd=root / "find", check=True, capture_output=True, text=True)
    assert len(names.stdout.splitlines()) == 404
    return names.stdout.splitlines()


@pytest.fixture
def get(fsget, serve, root):
    for name in ("a", "sub/a", "sub/b", "tree/x", "tree/inner/y", "odd/[1].txt", "odd/1.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    server = serve()
    return functools.partial(fsget, "-s", f"{server.host}:{server.port}")


def content(directory) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def as_list(*names: str) -> bytes:
    return "".join(f"{name}\n" for name in names).encode()


@pytest.fixture(params=["1", "4"])
def get_over(get, request):
    """``get`` over so many connections."""
    return functools.partial(get, "-j", request.param)


def test_what_find_lists_arrives_where_find_has_found_it(get_over, place, root, found, sha256sum):
    names = as_list(*(f"./find/{name[2:]}" for name in found))
    result = get_over("-i", "-", "--json", "--manifest", "SUMS", stdin=None, input=names)
    assert (result.status, result.err) == (0, "")
    listed = (place / "SUMS").read_text()
    (place / "SUMS").unlink()
    assert content(place / "find") == content(root / "find")
    assert sorted(each["path"] for each in result.objects) == sorted(f"find/{name[2:]}" for name in found)
    assert {each["name"] for each in result.objects} == {f"./find/{name[2:]}" for name in found}
    checked = sha256sum(place, "-c", "--strict", "-", input=listed)
    assert (checked.returncode, checked.stdout.count(": OK")) == (0, 404)
    again = get_over("-i", "-", "--json", stdin=None, input=names)
    assert {each["status"] for each in again.objects} == {"unchanged"}
    assert len(again.objects) == 404


def test_a_list_may_come_through_a_pipe_from_find_itself(place, begin, serve, root, found):
    server = serve()
    with subprocess.Popen(["find", ".", "-print0"], cwd=root, stdout=subprocess.PIPE) as find:
        process = begin(
            *("-s", f"{server.host}:{server.port}", "-0", "-i", "-"),
            stdin=find.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        out, err = process.communicate()
    # Directories are among what it finds, and the one that it began with.
    assert process.returncode == 4
    directories = [path for path in (root / "find").rglob("*") if path.is_dir()]
    assert err.count(b"is a directory; -r fetches it") == len(directories) + 1
    assert b"standard input, name 1: .: this names no file" in err
    assert len(out.splitlines()) == len(found) + 1, "and the file that is there in every test"
    assert content(place) == content(root)


def test_a_dry_run_of_a_list_tells_every_name_and_makes_nothing(get, place):
    names = as_list("a", "./sub/a", "missing", "sub//b")
    result = get("-n", "-i", "-", stdin=None, input=names)
    assert result.status == 3
    assert result.out.splitlines() == [
        "a: 1 byte, would be fetched",
        "sub/a: 5 bytes, would be fetched",
        "2 files with 6 bytes would be fetched",
    ]
    assert os.listdir(place) == []
    objects = get("-n", "-i", "-", "--json", stdin=None, input=names).objects
    assert sorted((each["name"], each["status"]) for each in objects) == [
        ("./sub/a", "would-fetch"),
        ("a", "would-fetch"),
        ("missing", "not-found"),
        ("sub//b", "usage"),
    ]
    assert get("-i", "-", stdin=None, input=b"a\n").status == 0
    assert (
        "1 file with 5 bytes would be fetched, 1 is here and unchanged"
        in get("-n", "-i", "-", stdin=None, input=as_list("a", "sub/a")).out
    )


@pytest.mark.parametrize(
    ("options", "names", "arrive"),
    [
        ((), ("a", "sub/a"), ["a", "sub/a"]),
        (("--paths",), ("/sub/b", "./sub/a", "././a"), ["a", "sub/a", "sub/b"]),
        (("--no-paths",), ("sub/b", "a"), ["a", "b"]),
        (("-r",), ("tree/inner", "sub"), ["sub/a", "sub/b", "tree/inner/y"]),
        (("-r",), ("./tree/",), ["tree/inner/y", "tree/x"]),
        (("-r", "--no-paths"), ("tree/inner",), ["inner/y"]),
        ((), ("tree/*", "sub/[a]"), ["sub/a", "tree/x"]),
        ((), ("odd/[1].txt",), ["odd/[1].txt"]),
        (("--no-paths",), ("tree/**",), ["inner/y", "x"]),
    ],
    ids=str,
)
def test_names_of_a_list_go_beneath_their_paths_unless_told_otherwise(get, place, options, names, arrive):
    result = get("-i", "-", *options, stdin=None, input=as_list(*names))
    assert (result.status, result.err) == (0, "")
    assert sorted(content(place)) == arrive


@pytest.mark.parametrize(
    ("arguments", "arrive"),
    [
        (("--paths", "sub/a", "a"), ["a", "sub/a"]),
        (("sub/a",), ["a"]),
        (("--paths", "-r", "tree/inner"), ["tree/inner/y"]),
        (("--paths", "tree/*"), ["tree/x"]),
        (("--paths", "-r", "/tree"), ["tree/inner/y", "tree/x"]),
    ],
    ids=str,
)
def test_names_of_the_command_line_keep_their_paths_where_that_is_wanted(get, place, arguments, arrive):
    result = get(*arguments)
    assert (result.status, result.err) == (0, "")
    assert sorted(content(place)) == arrive


def test_a_tree_that_keeps_its_path_is_pruned_there_and_not_through_a_link(get, place, tmp_path):
    assert get("--paths", "-r", "tree/inner").status == 0
    (place / "tree/inner/old").write_text("old")
    (place / "tree/beside").write_text("mine")
    assert get("--paths", "-r", "--delete", "--confirm-delete", "tree/inner").status == 0
    assert sorted(content(place)) == ["tree/beside", "tree/inner/y"]
    (tmp_path / "outside/inner").mkdir(parents=True)
    (tmp_path / "outside/inner/old").write_text("stays")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/tree").symlink_to(tmp_path / "outside")
    dry = get("--paths", "-r", "--delete", "-n", "-d", str(tmp_path / "other"), "tree/inner")
    assert "deleted" not in dry.out
    assert get("--paths", "-r", "--delete", "--confirm-delete", "-d", str(tmp_path / "other"), "tree/inner").status == 7
    assert sorted(content(tmp_path / "outside")) == ["inner/old"]


def test_what_is_wrong_with_a_name_costs_only_that_name(get, place):
    bad = ("..", "sub/../a", "sub//b", "sub/./b", "/", "", "x" * 70_000, "fs:///a", "http://h/a", "sub/")
    names = ("a", *bad, "sub/b")
    result = get("-i", "-", "--json", stdin=None, input=as_list(*names))
    assert result.status == 4, "the worst of all: a directory was asked for"
    assert sorted(content(place)) == ["a", "sub/b"]
    lines = result.err.splitlines()
    assert len(lines) == len(bad) - 1, "an empty line is passed over"
    assert lines[0] == (
        "fsget: standard input, name 2: ..: this names no file; "
        "the last part of a name becomes the name of the local file"
    )
    assert lines[1].startswith("fsget: standard input, name 3: sub/../a: a part of the name is empty, . or ..")
    statuses = {each["name"]: each["status"] for each in result.objects}
    long = next(name for name in statuses if name.startswith("xxx"))
    assert statuses == {
        "a": "ok",
        "sub/b": "ok",
        long: "usage",
        **{name: "usage" for name in bad if 0 < len(name) < 99},
        "/": "not-a-file",
        "sub/": "not-a-file",
    }
    assert len(long) < 20_000, "no more of it is kept than shows that it is too long"


def test_two_names_that_would_become_one_file_cost_only_the_second(get, place):
    result = get("-i", "-", "--no-paths", "--json", stdin=None, input=as_list("sub/a", "a", "sub/b", "/sub/a"))
    assert result.status == 2
    assert result.err == (
        "fsget: standard input, name 2: a: another name would become the same local file; fetch one of them to "
        "another --directory, or both to their --paths\n"
    )
    assert content(place) == {"a": b"sub/a", "b": b"sub/b"}
    assert {each["name"]: each["status"] for each in result.objects}["a"] == "usage"


def test_a_name_of_a_list_does_not_replace_one_of_the_command_line(get, place):
    result = get("-i", "-", "--no-paths", "a", stdin=None, input=b"sub/a\nsub/b\n")
    assert result.status == 2
    assert "standard input, name 1: sub/a: another name would become the same local file" in result.err
    assert content(place) == {"a": b"a", "b": b"sub/b"}


def test_a_list_writes_nothing_through_a_link_that_lies_in_the_way(get, place, tmp_path):
    (tmp_path / "outside").mkdir()
    (place / "sub").symlink_to(tmp_path / "outside")
    result = get("-i", "-", stdin=None, input=b"sub/a\na\nsub/b\n")
    assert result.status == 7
    assert os.listdir(tmp_path / "outside") == []
    assert result.err.splitlines() == [
        "fsget: sub: local file sub: not a directory; what belongs there is left out",
        "fsget: 2 files not tried, for the same reason",
    ]
    assert content(place) == {"a": b"a"}


def test_a_large_file_of_a_list_goes_to_its_path(get, place, root):
    big = os.urandom(PIECE_BYTES + 10)
    (root / "sub/big").write_bytes(big)
    result = get("-i", "-", stdin=None, input=b"sub/big\n")
    assert (result.status, result.err) == (0, "")
    assert (place / "sub/big").read_bytes() == big


def test_an_arrow_tells_where_a_file_went_unless_that_is_its_path(get, place):
    (place / "there").mkdir()
    assert get("-i", "-", stdin=None, input=b"./sub/a\n").out.startswith("./sub/a: 5 bytes, sha256 verified")
    told = get("-i", "-", "-d", "there", stdin=None, input=b"sub/a\n").out
    assert told.startswith("sub/a -> there/sub/a: 5 bytes")


@pytest.mark.parametrize("arguments", [("--paths", "-o", "x", "a"), ("--no-paths", "--stat", "a")])
def test_paths_are_for_files_that_get_names_of_their_own(fsget, arguments):
    result = fsget(*arguments)
    assert result.status == 2
    assert "--paths and --no-paths go with fetching" in " ".join(result.err.split())


def test_a_list_with_the_line_ends_of_windows_is_told_once(get):
    result = get("-i", "-", stdin=None, input=b"a\r\nsub/a\r\n")
    assert result.status == 3
    assert result.err.count("ends in a carriage return; convert a list from Windows with tr -d '\\r'") == 1


def test_a_name_on_the_command_line_may_begin_with_a_dot_and_a_slash_too(get):
    assert get("./sub/a").out.startswith("./sub/a: 5 bytes, sha256 verified")
