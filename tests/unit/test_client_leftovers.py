"""What killed runs have left is told from what another run uses just now."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.client.content import Known, Version
from forkserver.client.local import leftovers, partial, smallfile
from forkserver.client.local.target import Durable, LocalFile
from forkserver.client.outcome import Failure

CONTENT = memoryview(b"content")
KNOWN = Known(Version(len(CONTENT), "e-1", 0, "host:2057"), 0o644)
OTHERS = b".fsget-0123456789abcdef-1f"


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_temporary_file_of_a_killed_run_is_removed_and_nothing_else(directory, tmp_path):
    (tmp_path / os.fsdecode(OTHERS)).write_text("left")
    others = [".fsget-0123456789abcdef-x", ".fsget-name.part", ".fsget-name.sums", ".fsget-", "name", ".fsget.toml"]
    for name in others:
        (tmp_path / name).write_text("stays")
    (tmp_path / ".fsget-0123456789abcdef-2").mkdir()
    os.mkfifo(tmp_path / ".fsget-0123456789abcdef-3")
    (tmp_path / ".fsget-0123456789abcdef-4").symlink_to("name")
    removed, parts = leftovers.sweep(directory)
    assert removed == 1
    assert [(part.name, part.source) for part in parts] == [(b".fsget-name.part", b"name")]
    kept = {".fsget-0123456789abcdef-2", ".fsget-0123456789abcdef-3", ".fsget-0123456789abcdef-4"}
    assert set(os.listdir(tmp_path)) == {*others, *kept}


def test_what_another_run_holds_stays(directory, tmp_path):
    for name in (OTHERS, b".fsget-name.part"):
        (tmp_path / os.fsdecode(name)).write_text("in use")
    program = (
        "import fcntl, sys; f = [open(n) for n in sys.argv[1:]]; [fcntl.flock(each, 2) for each in f]; print(); input()"
    )
    command = [sys.executable, "-c", program, os.fsdecode(OTHERS), ".fsget-name.part"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert leftovers.sweep(directory) == (0, [])
        assert not leftovers.remove(directory, OTHERS)
        holder.communicate(b"\n")
    removed, parts = leftovers.sweep(directory)
    assert (removed, len(parts)) == (1, 1)


def test_files_of_this_very_run_stay(directory, tmp_path):
    own = partial.temporary_name()
    (tmp_path / os.fsdecode(own)).write_text("ours")
    assert leftovers.sweep(directory) == (0, [])
    assert partial.is_temporary(own)


def test_a_forked_process_has_temporary_names_of_its_own():
    # The first name comes before the fork: the other process would inherit its random bytes.
    code = (
        "import os\n"
        "from forkserver.client.local import partial\n"
        "theirs = partial.temporary_name()\n"
        "if not os.fork():\n"
        "    os.write(1, b'%s %d' % (partial.temporary_name(), partial.is_own(theirs)))\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "os.write(1, b' ' + theirs)\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    ours, is_own, theirs = finished.stdout.split()
    assert partial.is_temporary(ours)
    assert partial.is_temporary(theirs)
    assert ours.rpartition(b"-")[0] != theirs.rpartition(b"-")[0]
    assert is_own == b"0"


def test_a_file_that_takes_long_is_held_while_it_is_written(directory, tmp_path):
    with LocalFile(directory, b"name", durable=Durable.NONE) as target:
        list(target.begin(KNOWN.version))
        (temporary,) = os.listdir(tmp_path)
        assert not leftovers.remove(directory, os.fsencode(temporary))
        target.write(0, CONTENT)
        target.verified(0, len(CONTENT), "", KNOWN.version)
        target.finish(KNOWN)
    assert os.listdir(tmp_path) == ["name"]


def test_a_file_that_is_swept_before_it_is_held_is_made_anew(directory, tmp_path, monkeypatch):
    hold = partial.hold
    swept: list[str] = []

    def sweep_before(fd: int) -> bool:
        if not swept:
            swept.extend(os.listdir(tmp_path))
            assert leftovers.remove(directory, os.fsencode(swept[0]))
        return hold(fd)

    monkeypatch.setattr(partial, "hold", sweep_before)
    with LocalFile(directory, b"name", durable=Durable.NONE) as target:
        list(target.begin(KNOWN.version))
        assert len(os.listdir(tmp_path)) == 1
        assert os.listdir(tmp_path) != swept
        target.write(0, CONTENT)
        target.finish(KNOWN)
    assert (tmp_path / "name").read_bytes() == CONTENT


def test_a_file_that_is_being_swept_when_it_is_to_be_held_is_made_anew(directory, tmp_path, monkeypatch):
    hold = partial.hold
    held: list[int] = []

    def lock_before(fd: int) -> bool:
        if not held:
            held.append(os.open(os.listdir(tmp_path)[0], os.O_RDWR, dir_fd=directory))
            fcntl.flock(held[0], fcntl.LOCK_EX)
        return hold(fd)

    monkeypatch.setattr(partial, "hold", lock_before)
    with LocalFile(directory, b"name", durable=Durable.NONE) as target:
        list(target.begin(KNOWN.version))
        target.finish(KNOWN)
    os.close(held[0])
    assert "name" in os.listdir(tmp_path)


def test_a_small_file_that_is_swept_is_written_once_more(directory, tmp_path, monkeypatch):
    rename = os.rename
    swept: list[bytes] = []

    def sweep_before(source: bytes, *arguments: Any, **options: Any) -> None:
        if not swept:
            swept.append(source)
            assert leftovers.remove(directory, source)
        rename(source, *arguments, **options)

    monkeypatch.setattr(os, "rename", sweep_before)
    smallfile.put(directory, b"sub/name", CONTENT, KNOWN, Durable.NONE)
    assert (tmp_path / "name").read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["name"]


def test_a_small_file_whose_directory_has_gone_is_a_failure(tmp_path):
    (tmp_path / "sub").mkdir()
    fd = os.open(tmp_path / "sub", os.O_RDONLY)
    (tmp_path / "sub").rmdir()
    with pytest.raises(Failure, match="no such directory"):
        smallfile.put(fd, b"sub/name", CONTENT, KNOWN, Durable.NONE)
    os.close(fd)


@given(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, ord("/")}))
def test_a_part_tells_its_file_or_that_it_does_not_know(name):
    part, listed = partial.names_beside(name)
    assert leftovers.source_of(part) == leftovers.source_of(listed)
    assert leftovers.source_of(part) in (name, None)
    assert leftovers.part_of_list(listed) == part
    assert not partial.is_temporary(part)


@pytest.mark.parametrize("name", [b"a" * 64, b"x" * 250, b".part"])
def test_a_part_that_may_be_of_a_long_name_does_not_tell_its_file(name):
    part = partial.names_beside(name)[0]
    assert leftovers.source_of(part) in (None, name)
    if len(name) >= 64:
        assert leftovers.source_of(part) is None


def test_a_part_is_removed_with_its_list_and_a_dry_run_removes_nothing(directory, tmp_path):
    for name in (".fsget-name.part", ".fsget-name.sums"):
        (tmp_path / name).write_text("left")
    assert leftovers.remove(directory, b".fsget-name.part", dry=True)
    assert len(os.listdir(tmp_path)) == 2
    assert leftovers.remove(directory, b".fsget-name.part")
    assert os.listdir(tmp_path) == []
    assert not leftovers.remove(directory, b".fsget-name.part")
