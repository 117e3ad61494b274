"""Names to descriptors, against a tree that changes while they are resolved."""

from __future__ import annotations

import os

import pytest

from forkserver.child.docroot import Docroot, Refusal, validator
from forkserver.protocol.messages import Status
from tests.conftest import swapping

ROUNDS = 1000


@pytest.fixture
def docroot(root):
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield Docroot(fd, hidden=False)
    os.close(fd)


@pytest.fixture
def flipper(root, tmp_path):
    """``swap`` is a directory and a link out of the root in turns."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("SECRET")
    (root / "real").mkdir()
    (root / "real" / "file").write_text("public")
    (root / "link").symlink_to(outside)
    with swapping(root):
        yield


@pytest.mark.usefixtures("flipper")
def test_no_race_with_a_link_leads_out_of_the_root(docroot):
    seen: set[str] = set()
    rounds = 0
    # Until each outcome was met, for only then the race was really run; the test's own time limit ends it otherwise.
    while rounds < ROUNDS or seen != {"ok", "forbidden", "not-found"}:
        rounds += 1
        try:
            found = docroot.open(b"/swap/file")
        except Refusal as refusal:
            seen.add(refusal.status.word)
            continue
        with open(found.fd, "rb") as file:
            assert file.read() == b"public"
        seen.add("ok")


def test_the_validator_tells_every_change(docroot, root):
    path = root / "file"
    path.write_text("one")
    seen = set()

    def look() -> None:
        found = docroot.open(b"/file")
        seen.add(validator(found.info))
        found.close()

    look()
    path.write_text("two")
    look()
    kept = path.stat()
    path.write_text("six")
    os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    look()
    (root / "new").write_text("ten")
    os.utime(root / "new", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    (root / "new").rename(path)
    look()
    assert len(seen) == 4


def test_an_open_file_is_known_to_be_replaced_removed_or_pointed_elsewhere(docroot, root):
    (root / "other").write_text("x")
    for change in ("rename", "unlink", "relink", "append"):
        link = root / f"link-{change}"
        target = root / f"target-{change}"
        target.write_text("x")
        link.symlink_to(target.name)
        found = docroot.open(f"/link-{change}".encode())
        assert docroot.still_is(found)
        if change == "rename":
            (root / "new").write_text("x")
            (root / "new").rename(target)
        elif change == "unlink":
            target.unlink()
        elif change == "relink":
            link.unlink()
            link.symlink_to("other")
        else:
            with target.open("a") as file:
                file.write("x")
        assert not docroot.still_is(found), change
        found.close()


def test_descriptors_are_given_back_after_every_refusal(docroot, root):
    (root / "dir").mkdir()
    os.mkfifo(root / "fifo")
    (root / "out").symlink_to("/etc/passwd")
    before = len(os.listdir("/proc/self/fd"))
    for name in (b"/fifo", b"/out", b"/nothing", b"/../x", b"/.hidden"):
        with pytest.raises(Refusal):
            docroot.open(name)
    docroot.open(b"/dir").close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_component_may_be_hidden_even_where_it_exists(docroot, root):
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    with pytest.raises(Refusal) as caught:
        docroot.open(b"/.git/config")
    assert caught.value.status is Status.NOT_FOUND
