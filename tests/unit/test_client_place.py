"""Directories of a tree: never left, and the one that stands in the way is named."""

from __future__ import annotations

import errno
import os

import pytest

from forkserver.client.local.place import Place
from forkserver.client.outcome import Reach


@pytest.fixture
def place(tmp_path):
    (tmp_path / "root").mkdir()
    with Place(os.fsencode(tmp_path / "root")) as place:
        yield place


@pytest.mark.parametrize("path", [b"..", b"a/../../b", b".", b"a//b", b"/", b"/etc"])
def test_no_path_leads_out_of_the_root(place, tmp_path, path):
    (tmp_path / "root" / "a").mkdir()
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        place.directory(path)
    assert os.listdir(tmp_path) == ["root"]
    assert os.listdir(tmp_path / "root") == ["a"]


@pytest.mark.parametrize(
    "make", [lambda path: path.write_text(""), lambda path: path.symlink_to("elsewhere")], ids=["file", "link"]
)
def test_what_stands_in_the_way_is_named(place, tmp_path, make):
    (tmp_path / "root/a").mkdir()
    make(tmp_path / "root/a/b")
    for use in (place.directory, place.check_writable):
        with pytest.raises(NotADirectoryError) as caught:
            use(b"a/b/c/d")
        assert caught.value.filename == b"a/b"
    failure = place.failure(b"a/b/c/d/e", caught.value)
    assert (failure.reach, failure.directory) == (Reach.DIRECTORY, b"a/b")
    assert failure.reason == "local file a/b: not a directory"


def test_a_name_that_is_too_long_concerns_only_what_has_it(place):
    with pytest.raises(OSError, match="name too long") as caught:
        place.directory(b"a/" + b"x" * 256)
    assert place.failure(b"a", caught.value).reach is Reach.FILE


def test_to_look_whether_a_directory_can_be_written_into_makes_none(place, tmp_path):
    place.check_writable(b"a/b/c")
    assert os.listdir(tmp_path / "root") == []
    assert not place.holds_something(b"")
    os.close(os.dup(place.directory(b"a/b")))
    assert place.holds_something(b"a")
    with pytest.raises(FileNotFoundError) as caught:
        place.holds_something(b"a/c")
    assert caught.value.filename == b"a/c"
