"""Walk a path to the open directory that holds its last component, never out of the root. Runs in a child.

Each component is opened with O_NOFOLLOW relative to the directory before it, so the kernel follows no link. The target
of a link is read and walked like the path itself. ``..`` is a step back along the walked way. So no rename and no new
link leads out of the root, at any moment.

The rules are those of RESOLVE_BENEATH in openat2(2). openat2 itself is not used: it would cost a fresh child 50 us of
page faults (ctypes), and systemd's DynamicUser= forbids it (RestrictSUIDSGID=).
"""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 40
"""The kernel follows as many links; see path_resolution(7)."""
MAX_STEPS = 8192
"""Most directories that one walk enters, some 10 ms: twice what a request line can name.

Without this limit, links in the tree could make a child walk for minutes, because each ``..`` of a link walks the whole
way again from the root.
"""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Walk:
    """A walk beneath ``root_fd``; close it.

    At the end ``name`` is the last component, which was no link, ``info`` its lstat(2), and ``directory_fd`` the
    directory that holds it. Before the first step ``directory_fd`` is the root.
    """

    __slots__ = ("_root_fd", "_steps", "directory_fd", "info", "name")

    def __init__(self, root_fd: int) -> None:
        self._root_fd = self.directory_fd = root_fd
        self._steps = 0
        self.name: bytes
        self.info: os.stat_result

    def close(self) -> None:
        """Close the directory, and go back to the root."""
        if self.directory_fd != self._root_fd:
            os.close(self.directory_fd)
            self.directory_fd = self._root_fd

    def enter(self, name: bytes) -> bytes | None:
        """Enter the directory ``name``. If ``name`` is a link, stay and return its target. Raises OSError."""
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise _error(errno.ELOOP)
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=self.directory_fd)
        except NotADirectoryError:
            mode = os.stat(name, dir_fd=self.directory_fd, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                return self._read_link(name)
            if stat.S_ISDIR(mode):
                raise _error(errno.EAGAIN) from None
            raise
        if self.directory_fd != self._root_fd:
            os.close(self.directory_fd)
        self.directory_fd = fd
        return None

    def look(self, name: bytes) -> bytes | None:
        """End the walk at ``name``. If ``name`` is a link, return its target instead. Raises OSError."""
        info = os.stat(name, dir_fd=self.directory_fd, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return self._read_link(name)
        self.name, self.info = name, info
        return None

    def retrace(self, way: list[bytes]) -> None:
        """Go to the directory that ``way`` leads to from the root; ``way`` held no link. Raises OSError."""
        self.close()
        for name in way:
            if self.enter(name) is not None:
                raise _error(errno.EAGAIN)

    def _read_link(self, name: bytes) -> bytes:
        try:
            return os.readlink(name, dir_fd=self.directory_fd)
        except OSError as error:
            raise (_error(errno.EAGAIN) if error.errno == errno.EINVAL else error) from None


def locate(root_fd: int, path: bytes) -> Walk:
    """Walk ``path`` from ``root_fd``, all links followed.

    Raises OSError: EXDEV where the path leaves the root, as every absolute link does; ELOOP for too many links or
    steps; EAGAIN where a link became a directory meanwhile, or the other way round (try again); what open(2) raises.
    """
    walk = Walk(root_fd)
    try:
        _walk(walk, path)
    except OSError:
        walk.close()
        raise
    return walk


def _walk(walk: Walk, path: bytes) -> None:
    way: list[bytes] = []
    ahead = path.split(b"/")[::-1]
    links = 0
    while ahead:
        name = ahead.pop()
        if name == b"..":
            if not way:
                raise _error(errno.EXDEV)
            way.pop()
            walk.retrace(way)
            name = b"."
        if name in (b"", b".") and ahead:
            continue
        link = walk.enter(name) if ahead else walk.look(name or b".")
        if link is None:
            way.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            raise _error(errno.ELOOP)
        if link.startswith(b"/"):
            raise _error(errno.EXDEV)
        ahead += link.split(b"/")[::-1]


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
