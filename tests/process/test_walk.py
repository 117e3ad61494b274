"""The walk from a path to a place in the tree, held against the kernel's own: openat2(2) with RESOLVE_BENEATH."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.child.walk import MAX_LINKS, locate

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
LIBC = ctypes.CDLL(None, use_errno=True)

NAMES = ("a", "b", "c")
paths = st.lists(st.sampled_from((*NAMES, *NAMES, "..", ".", "")), min_size=1, max_size=6).map("/".join)
asked = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5).map("/".join)
nodes = st.one_of(st.just("dir"), st.just("dir"), st.just("file"), paths.filter(bool).map(lambda target: "->" + target))
trees = st.lists(st.tuples(asked, nodes), max_size=14)


def by_kernel(root_fd: int, path: bytes) -> tuple[int, int] | str:
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    fd = LIBC.syscall(ctypes.c_long(SYS_OPENAT2), root_fd, path, ctypes.byref(how), ctypes.c_size_t(24))
    if fd < 0:
        return errno.errorcode[ctypes.get_errno()]
    try:
        return identity(os.fstat(fd))
    finally:
        os.close(fd)


def by_walk(root_fd: int, path: bytes) -> tuple[int, int] | str:
    try:
        place = locate(root_fd, path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    try:
        assert identity(os.stat(place.name, dir_fd=place.directory_fd)) == identity(place.info)
    finally:
        place.close()
    return identity(place.info)


def identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    directory = tmp_path_factory.mktemp("walk")
    (directory / "a").write_text("outside")
    root_fd = LIBC.syscall(ctypes.c_long(SYS_OPENAT2), -1, b"", None, ctypes.c_size_t(0))
    if root_fd < 0 and ctypes.get_errno() == errno.ENOSYS:
        pytest.skip("this kernel has no openat2(2) to compare with")
    return directory


@given(trees, st.lists(asked, min_size=1, max_size=6))
def test_it_leads_where_the_kernel_leads_and_fails_as_it_fails(top, tree, wanted):
    root = top / "root"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name, node in tree:
        path = root / name
        if os.path.lexists(path) or not path.parent.is_dir():
            continue
        if not path.parent.resolve().is_relative_to(root):
            continue  # through a link that leads out: what is made there is not of this tree
        if node == "dir":
            path.mkdir()
        elif node == "file":
            path.write_text("")
        else:
            path.symlink_to(node.removeprefix("->"))
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    try:
        for name in [*wanted, *(name for name, _ in tree)]:
            path = os.fsencode(name)
            assert by_walk(root_fd, path) == by_kernel(root_fd, path), name
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        os.close(root_fd)


@pytest.fixture
def root_fd(root):
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("count", [MAX_LINKS - 1, MAX_LINKS, MAX_LINKS + 1, 3000])
def test_as_many_links_are_followed_as_the_kernel_follows(root, root_fd, count):
    (root / "end").mkdir()
    for number in range(count):
        (root / f"{number}").symlink_to(f"{number + 1}/." if number + 1 < count else "end")
    assert by_walk(root_fd, b"0") == by_kernel(root_fd, b"0")


@pytest.mark.parametrize(
    "target", ["/", "/etc/passwd", "..", "a/../..", "../root/file", "a/../../a", "self", "/proc/self/root"]
)
def test_links_that_lead_out_or_nowhere_end_as_with_the_kernel(root, root_fd, target):
    (root / "a").mkdir()
    (root / "file").write_text("")
    (root / "self").symlink_to("self")
    (root / "link").symlink_to(target)
    (root / "a" / "link").symlink_to(target)
    for path in (b"link", b"link/file", b"a/link", b"a/link/etc/passwd"):
        assert by_walk(root_fd, path) == by_kernel(root_fd, path)
    assert by_walk(root_fd, b"link/file") in {"EXDEV", "ELOOP", "ENOENT"}


def test_magic_links_lead_nowhere():
    proc_fd = os.open("/proc/self", os.O_PATH | os.O_DIRECTORY)
    try:
        for path in (b"root/etc/passwd", b"cwd", b"exe", b"fd/0"):
            assert by_walk(proc_fd, path) in {"EXDEV", "ENOENT"}
    finally:
        os.close(proc_fd)


def test_a_path_deeper_than_descriptors_and_longer_than_path_max_is_walked(root_fd):
    steps = [b"some-directory-or-other"] * 300
    fd = os.dup(root_fd)
    for name in steps:
        os.mkdir(name, dir_fd=fd)
        deeper = os.open(name, os.O_PATH | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = deeper
    try:
        assert by_walk(root_fd, b"/".join(steps)) == identity(os.fstat(fd))
    finally:
        os.close(fd)


def test_links_cannot_make_a_walk_long(root, root_fd):
    deep = b"/".join([b"d"] * 100)
    os.makedirs(os.fsencode(root) + b"/" + deep)
    os.mkdir(os.fsencode(root) + b"/" + deep + b"/e")
    (root / "d" / "link").symlink_to(b"/".join([b"..", deep] * 18).decode())  # 1,818 names, and every .. from the root
    assert by_walk(root_fd, b"d/link") == by_kernel(root_fd, b"d/link")
    for number in range(8):
        (root / f"{number}").symlink_to(f"{number + 1}/" + "e/../" * 800)
    (root / "8").symlink_to(deep.decode())
    assert by_walk(root_fd, b"0") == "ELOOP"
