"""What runs leave that are killed with no chance to clean up: the next run finds it."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time

import pytest

from forkserver.client.local import partial
from forkserver.client.local.partial import PIECE_BYTES

GENEROUS_S = 20
STALE = ".fsget-0123456789abcdef-1f"


@pytest.fixture
def get(fsget, server, root):
    for name in ("tree/a", "tree/sub/b", "tree/sub/c"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "tree/large").write_bytes(os.urandom(PIECE_BYTES + 1))
    return functools.partial(fsget, "-s", f"{server.host}:{server.port}")


def leftovers(place) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob(".fsget-*"))


def leave(place, *names: str, content: bytes = b"left") -> None:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def leave_part(place, name: str) -> tuple[str, str]:
    """Leave a part of the file ``name``, and its list, as a run does that was killed."""
    path = place / name
    part, listed = (
        str((path.parent / os.fsdecode(each)).relative_to(place))
        for each in partial.names_beside(os.fsencode(path.name))
    )
    leave(place, part, listed, content=b"x" * 8192)
    return part, listed


def test_what_a_killed_run_has_left_the_next_one_removes(begin, fsget, lying_server, says, place):
    names = [b"/tree/%d" % number for number in range(4)]
    lines = b"".join(b"file %s size=9 mtime=1624000000.000000000 mode=644 etag=e-1\n" % name for name in names)
    listing = [says.ask, says.directory, says.ask, says.directory + lines + b"FS1 END ok entries=4\n"]
    server = lying_server([*listing, says.ask, says.header(9) + b"half", says.hold])
    process = begin("-s", server.address, "-r", "tree")
    deadline = time.monotonic() + GENEROUS_S
    while not (place / "tree").exists() or not leftovers(place / "tree"):
        assert time.monotonic() < deadline
        os.sched_yield()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert len(leftovers(place)) == 1
    whole = [says.ask] * 4 + [says.header(9) + b"ninebytes" + says.end(b"ninebytes")] * 4
    result = fsget("-s", lying_server([*listing, *whole]).address, "-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert "1 temporary file of killed runs removed" in result.out
    assert sorted(os.listdir(place / "tree")) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "options",
    [("-r", "tree"), ("-r", "-j", "4", "tree"), ("-r", "--paths", "tree"), ("tree/**",), ("-i", "-")],
    ids=str,
)
def test_every_directory_that_a_run_works_in_is_looked_through(get, place, options):
    top = "" if "tree/**" in options else "tree/"
    leave(place, STALE, f"{top}{STALE}", f"{top}sub/{STALE}", f"elsewhere/{STALE}")
    before = os.stat(place / f"{top}sub").st_mtime_ns
    result = get(*options, stdin=None, input=b"tree/a\ntree/sub/b\ntree/sub/c\n")
    assert (result.status, result.err) == (0, "")
    assert leftovers(place) == [f"elsewhere/{STALE}"]
    if "-r" in options:
        assert os.stat(place / f"{top}sub").st_mtime_ns != before, "the time is that of the server's"
        again = get(*options)
        assert (again.status, "removed" in again.out) == (0, False)


def test_what_a_run_that_lives_has_in_work_stays(begin, get, lying_server, says, place):
    server = lying_server([says.ask, says.header(9) + b"half", says.hold])
    leave(place, "tree/other")
    process = begin("-s", server.address, "-d", "tree", "f")
    deadline = time.monotonic() + GENEROUS_S
    while not leftovers(place):
        assert time.monotonic() < deadline
        os.sched_yield()
    held = leftovers(place)
    result = get("-r", "tree")
    assert (result.status, result.err) == (0, "")
    assert get("-r", "--delete", "--confirm-delete", "tree").status == 0
    assert leftovers(place) == held
    process.send_signal(signal.SIGINT)
    process.wait()
    assert leftovers(place) == []


def test_a_part_of_a_file_that_the_server_has_no_more_is_told(get, place, server):
    part, listed = leave_part(place, "tree/gone")
    kept = leave_part(place, "tree/sub/b")
    result = get("-r", "tree")
    assert result.status == 0
    assert result.err == (
        f"fsget: {part}: 8,192 bytes on the disk, a part of tree/gone, which the server does not have any more; "
        "remove it, or use -r --delete --confirm-delete\n"
    )
    assert leftovers(place) == sorted([part, listed])
    assert server.log("path=/tree/gone ")
    assert not set(kept) & set(leftovers(place)), "the file is short by now: its part was of no use"
    (told,) = [each for each in get("-r", "--json", "tree").objects if each["status"] == "useless"]
    assert told == {"name": part, "status": "useless", "path": part, "size": 8192}
    assert get("-r", "-q", "tree").err == ""


def test_a_part_of_a_file_that_is_only_excluded_is_not_told(get, place):
    parts = leave_part(place, "tree/large")
    result = get("-r", "--exclude", "large", "tree")
    assert (result.status, result.err) == (0, "")
    assert leftovers(place) == sorted(parts)


def test_a_deletion_takes_parts_of_files_that_the_server_has_no_more(get, place):
    assert get("-r", "tree").status == 0
    gone = leave_part(place, "tree/gone")
    leave_part(place, "tree/away/deep")
    leave(place, f"tree/away/{STALE}", f"tree/sub/{STALE}", "tree/sub/.hidden/x", f"tree/sub/.hidden/{STALE}")
    kept = leave_part(place, "tree/large")
    excluded = leave_part(place, "tree/sub/x.log")
    options = ("-r", "--delete", "--exclude", "*.log", "--json", "tree")

    def told(*more: str) -> set[str]:
        result = get(*options, *more)
        assert (result.status, result.err) == (0, "")
        return {each["name"] for each in result.objects if each["status"] in ("deleted", "would-delete")}

    (place / "tree/large").unlink()
    (place / "tree/large").symlink_to("nowhere")
    planned = told("-n")
    assert planned == {
        *(gone[0], "tree/away", "tree/away/.fsget-deep.part"),
        *(f"tree/away/{STALE}", f"tree/sub/{STALE}"),
    }
    assert set(kept) < set(leftovers(place)), "a dry run removes nothing"
    assert told("--confirm-delete") == planned
    # The part that was of use was used.
    assert leftovers(place) == sorted([*excluded, f"tree/sub/.hidden/{STALE}"])
    assert not (place / "tree/away").exists()


def test_a_name_that_is_not_found_tells_of_its_part(get, place):
    part, listed = leave_part(place, "gone")
    told = "what came of it before is in {}, 8,192 bytes on the disk, and can be removed"
    result = get("gone")
    assert result.status == 3
    assert told.format(f"./{part}") in result.err
    assert told.format(f"./{part}") in get("-i", "-", stdin=None, input=b"gone\n").err
    assert leftovers(place) == sorted([part, listed])
    assert "came of it" not in get("none").err


def test_the_directory_of_a_manifest_is_looked_through(get, place):
    leave(place, f"lists/{STALE}", f"elsewhere/{STALE}")
    assert get("--manifest", "lists/SUMS", "tree/a").status == 0
    assert leftovers(place) == [f"elsewhere/{STALE}"]
    assert os.listdir(place / "lists") == ["SUMS"]


def test_a_manifest_that_is_being_written_is_not_taken_for_a_leftover(begin, get, lying_server, says, place):
    leave(place, "tree/other")
    server = lying_server([says.ask, says.header(9) + b"half", says.hold])
    process = begin("-s", server.address, "--manifest", "tree/SUMS", "f", stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + GENEROUS_S
    while len(leftovers(place)) < 2:
        assert time.monotonic() < deadline
        os.sched_yield()
    held = [name for name in leftovers(place) if name.startswith("tree/")]
    assert len(held) == 1
    assert get("-r", "tree").status == 0
    assert [name for name in leftovers(place) if name.startswith("tree/")] == held
    process.send_signal(signal.SIGINT)
    process.wait()
