"""``-c`` and ``--manifest``: what is here is unchanged only if its content is the server's."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

import pytest

from forkserver.client.local.partial import PIECE_BYTES

BIG = os.urandom(2 * PIECE_BYTES + 10)
FILES = {"tree/a": b"alpha", "tree/sub/b": b"beta", "tree/empty": b"", "tree/big": BIG}
MTIME_NS = 1_600_000_000_123_456_789
BAD_REQUEST = b'FS1 400 bad-request pid=4711 start=1763860000.123456 message="unknown field"\n'
WAYS = {
    "tree": ("-r", "tree"),
    "connections": ("-r", "-j", "3", "tree"),
    "pattern": ("-r", "*"),
    "list": ("-i", "names"),
}


@pytest.fixture
def filled(root: Path) -> Path:
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return root


@pytest.fixture
def names(place: Path) -> None:
    """A list of two files, for ``-i``."""
    (place / "names").write_text("tree/a\ntree/big\n")


def alter(path: Path, offset: int = -1) -> None:
    """Write another byte, and put the times back: size, time and note say that nothing has changed."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(offset, os.SEEK_END if offset < 0 else os.SEEK_SET)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def here(place: Path, name: str) -> Path:
    """Where a file of the tree is: a list may put it elsewhere than a tree does."""
    return next(path for path in (place / name, place / name.rpartition("/")[2]) if path.exists())


def count(server, verb: str) -> int:
    server.quiet()
    return len(server.log(f" request={verb} "))


@pytest.mark.usefixtures("attributes", "filled")
@pytest.mark.parametrize("name", ["tree/a", "tree/big"])
@pytest.mark.parametrize("option", ["-c", "--checksum", "--manifest=SUMS"])
def test_a_file_altered_here_without_a_trace_is_found_by_its_content(get, place, name, option):
    path = place / name.rpartition("/")[2]
    assert get(name).status == 0
    alter(path)
    assert "unchanged" in get(name).out, "without the option, size, time and note are what counts"
    result = get(option, name)
    assert (result.status, result.err) == (0, "")
    assert "unchanged" not in result.out
    assert path.read_bytes() == FILES[name]
    if option.startswith("--manifest"):
        assert (place / "SUMS").read_text() == f"{sha256(FILES[name])}  {path.name}\n"


@pytest.mark.usefixtures("filled", "names")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("option", ["-c", "--manifest=SUMS"])
def test_of_many_files_just_the_altered_ones_are_fetched(get, server, place, way, option):
    assert get(*way).status == 0
    for name, offset in (("tree/a", 2), ("tree/big", PIECE_BYTES + 3)):
        alter(here(place, name), offset)
    fetches = count(server, "GET")
    result = get(option, "--json", *way)
    assert (result.status, result.err) == (0, "")
    told = {str(each["name"]).removeprefix("/"): each for each in result.objects}
    assert {name for name, each in told.items() if each["status"] == "ok"} == {"tree/a", "tree/big"}
    for name, each in told.items():
        if name in FILES:
            assert here(place, name).read_bytes() == FILES[name]
            assert each["digest"] in (None, f"sha256:{sha256(FILES[name])}")
    assert count(server, "GET") > fetches
    if option != "-c":
        assert get("--verify", "SUMS").status == 0


@pytest.mark.usefixtures("filled", "names")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_where_nothing_differs_nothing_is_fetched(get, server, way):
    assert get(*way).status == 0
    fetches = count(server, "GET")
    for option in ("-c", "--manifest=SUMS"):
        result = get(option, "--json", *way)
        assert (result.status, result.err) == (0, "")
        assert {each["status"] for each in result.objects} == {"unchanged"}
        assert {each["received"] for each in result.objects} == {0}
    assert count(server, "GET") == fetches
    assert get("--verify", "SUMS").status == 0


@pytest.mark.usefixtures("filled", "names")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_dry_run_tells_what_differs_and_changes_nothing(get, server, place, way):
    assert get(*way).status == 0
    for name in ("tree/a", "tree/big"):
        alter(here(place, name), 2)
    fetches = count(server, "GET")
    before = here(place, "tree/a").read_bytes()
    plain, compared = get("-n", *way), get("-n", "-c", *way)
    assert (plain.status, compared.status) == (0, 0)
    assert "would be fetched" in compared.out.splitlines()[0]
    would_be_fetched = {line.partition(":")[0] for line in compared.out.splitlines() if ", would be fetched" in line}
    assert {name.rpartition("/")[2] for name in would_be_fetched} == {"a", "big"}
    assert ", would be fetched" not in plain.out
    assert here(place, "tree/a").read_bytes() == before
    assert count(server, "GET") == fetches


@pytest.mark.usefixtures("filled")
def test_what_was_only_touched_here_gets_the_servers_time_again(get, place):
    assert get("-r", "tree").status == 0
    for name in ("tree/a", "tree/big"):
        os.utime(place / name, ns=(1, 1))
        (place / name).chmod(0o700)
    result = get("-r", "-c", "tree")
    assert (result.status, ", unchanged" in result.out) == (0, True)
    for name in ("tree/a", "tree/big"):
        found = (place / name).stat()
        assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode) & 0o111) == (MTIME_NS, 0)


@pytest.mark.usefixtures("filled")
def test_a_dry_run_compares_a_long_file_of_another_time(get, filled, place):
    assert get("-r", "tree").status == 0
    os.utime(filled / "tree" / "big")
    before = (place / "tree" / "big").stat()
    assert get("-n", "-r", "tree").out == "tree: 0 files with 0 bytes would be fetched, 4 are here and unchanged\n"
    after = (place / "tree" / "big").stat()
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@pytest.mark.usefixtures("filled")
def test_what_is_no_regular_file_here_is_not_compared(get, place):
    (place / "tree" / "sub").mkdir(parents=True)
    (place / "tree" / "a").symlink_to("sub/b")
    (place / "tree" / "sub" / "b").write_bytes(b"alpha")
    os.mkfifo(place / "tree" / "empty")
    result = get("-r", "-c", "tree")
    assert result.status == 7
    assert result.err == "fsget: tree/empty: local file tree/empty: is not a regular file, and is left as it is\n"
    assert not (place / "tree" / "a").is_symlink()
    assert (place / "tree" / "sub" / "b").read_bytes() == b"beta"


@pytest.mark.usefixtures("attributes")
def test_an_older_server_which_gives_no_digests_is_asked_for_the_file(fsget, lying_server, says, place):
    described = says.header(1)[: says.header(1).index(b" offset=")] + b"\n"
    server = lying_server(
        says.file(b"x"),
        [says.ask, described, says.ask, BAD_REQUEST],
        says.file(b"x"),
        [*[says.ask] * 2, described, described],
        [*[says.ask] * 2, BAD_REQUEST],
        [says.ask, BAD_REQUEST],
        [*says.file(b"x"), *says.file(b"y")],
    )
    assert fsget("-s", server.address, "f").status == 0
    assert "unchanged" not in fsget("-s", server.address, "-c", "f").out
    (place / "g").write_bytes(b"g")
    result = fsget("-s", server.address, "-c", "-i", "-", stdin=None, input=b"f\ng\n")
    assert (result.status, result.err) == (0, "")
    assert (place / "g").read_bytes() == b"y"


def test_the_digest_of_an_unchanged_file_in_a_list_goes_into_the_objects(get, filled, place):
    (place / "names").write_text("tree/a\ntree/sub/b\n")
    for _ in range(2):
        result = get("--json", "-i", "names")
        assert (result.status, result.err) == (0, "")
        digests = {each["digest"] for each in result.objects}
        assert digests == {f"sha256:{sha256((filled / name).read_bytes())}" for name in ("tree/a", "tree/sub/b")}


@pytest.mark.parametrize(
    "written",
    [
        ["--checksum", "tree/a"],
        ["-c", "tree/a"],
        ["tree/a", "--checksum"],
        ["--checksum", "--", "tree/a"],
        ["-rc", "tree/a"],
        ["--checksum=sha256:" + sha256(b"alpha"), "tree/a"],
        ["--checksum=" + sha256(b"alpha"), "tree/a"],
        ["--checksum", "sha256:" + sha256(b"alpha"), "tree/a"],
        ["--checksum", sha256(b"alpha").upper(), "tree/a"],
        ["-c", "--checksum", sha256(b"alpha"), "tree/a"],
    ],
)
@pytest.mark.usefixtures("filled")
def test_the_option_has_a_value_only_where_that_is_written_as_a_digest(get, place, written):
    result = get(*written)
    assert (result.status, result.err) == (0, "")
    assert (place / "a").read_bytes() == b"alpha"
