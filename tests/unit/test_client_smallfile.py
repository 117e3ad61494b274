"""A small file takes its name whole, or leaves nothing."""

from __future__ import annotations

import errno
import os
import stat

import pytest

from forkserver.client.content import Known, Version
from forkserver.client.local import smallfile
from forkserver.client.local.target import Durable
from forkserver.client.outcome import Failure, Reach

CONTENT = memoryview(b"content")
NANOSECONDS = 1_624_000_000_123_456_789


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def umask():
    before = os.umask(0o027)
    yield
    os.umask(before)


def known(mode: int = 0o644, mtime_ns: int = NANOSECONDS) -> Known:
    return Known(Version(len(CONTENT), "e-1", mtime_ns, "host:2057"), mode)


def put(directory_fd: int, path: bytes, what: Known) -> None:
    smallfile.put(directory_fd, path, CONTENT, what, Durable.NONE)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(("mode", "here"), [(0o644, 0o640), (0o755, 0o750), (0o4777, 0o750), (0o000, 0o640)])
def test_it_has_its_content_its_time_and_of_its_permissions_the_executable_bits(directory, tmp_path, mode, here):
    put(directory, b"sub/name", known(mode))
    found = (tmp_path / "name").stat()
    assert (tmp_path / "name").read_bytes() == CONTENT
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (here, NANOSECONDS)
    assert os.listdir(tmp_path) == ["name"]


def test_it_takes_the_place_of_a_file_and_of_a_link_but_not_of_what_that_leads_to(directory, tmp_path):
    (tmp_path / "file").write_text("before")
    (tmp_path / "link").symlink_to("elsewhere")
    put(directory, b"file", known())
    put(directory, b"link", known())
    assert (tmp_path / "file").read_bytes() == (tmp_path / "link").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_a_directory_stays_and_nothing_is_left(directory, tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(Failure, match="local file sub/name: is a directory, and is left as it is") as caught:
        put(directory, b"sub/name", known())
    assert caught.value.reach is Reach.FILE
    assert os.listdir(tmp_path) == ["name"]


def test_a_time_no_file_can_have_is_left_out(directory, tmp_path):
    put(directory, b"name", known(mtime_ns=2**80))
    assert (tmp_path / "name").read_bytes() == CONTENT


# A rename that is not permitted may concern the older file alone: others can still be written.
@pytest.mark.parametrize(
    ("number", "reach"),
    [
        (errno.ENOSPC, Reach.RUN),
        (errno.EDQUOT, Reach.RUN),
        (errno.EROFS, Reach.DIRECTORY),
        (errno.EACCES, Reach.FILE),
        (errno.EIO, Reach.FILE),
    ],
)
def test_a_failure_on_the_way_leaves_nothing_and_tells_how_far_it_reaches(
    directory, tmp_path, monkeypatch, number, reach
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(Failure) as caught:
        put(directory, b"name", known())
    assert caught.value.reach is reach
    assert os.listdir(tmp_path) == []


def test_a_signal_on_the_way_leaves_nothing(directory, tmp_path, monkeypatch):
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "utime", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(directory, b"name", known())
    assert os.listdir(tmp_path) == []
