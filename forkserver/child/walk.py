"""From a path to the open directory that holds its last component, never outside of the root. Runs in a child.

Component by component, each by O_NOFOLLOW relative to the directory before it: the kernel follows no link here. What
links say is read and walked like the path itself, and ``..`` is a step back along the way we came. So no rename and no
new link, at whatever moment, leads out. The rules are those of RESOLVE_BENEATH in openat2(2), which itself would
cost a fresh child 50 us of page faults (ctypes), and which systemd's DynamicUser= takes away (RestrictSUIDSGID=).
"""

from __future__ import annotations

import errno
import os
import stat

MAX_LINKS = 40
"""As many as the kernel follows; see path_resolution(7)."""
MAX_STEPS = 8192
"""Directories entered on one walk, some 10 ms: twice what a request line can name. Whoever may walk links in the tree
could otherwise have a child walk for minutes, for each ``..`` of theirs goes the whole way again from the root."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Walk:
    """Where a path leads: ``name``, no link when it was looked at, in ``directory_fd``; ``info`` is its lstat(2).

    Close it. Before the first step it is in the root.
    """

    __slots__ = ("_root_fd", "_steps", "directory_fd", "info", "name")

    def __init__(self, root_fd: int) -> None:
        self._root_fd = self.directory_fd = root_fd
        self._steps = 0
        self.name: bytes
        self.info: os.stat_result

    def close(self) -> None:
        """Give the descriptor back: stand in the root again."""
        if self.directory_fd != self._root_fd:
            os.close(self.directory_fd)
            self.directory_fd = self._root_fd

    def enter(self, name: bytes) -> bytes | None:
        """Go down into directory ``name``; where it is a link, stay and return what it says. Raises OSError."""
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
        """Make ``name`` the walk; where it is a link, return what it says instead. Raises OSError."""
        info = os.stat(name, dir_fd=self.directory_fd, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            return self._read_link(name)
        self.name, self.info = name, info
        return None

    def retrace(self, way: list[bytes]) -> None:
        """Stand in the directory that ``way``, which held no link, leads to from the root. Raises OSError."""
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

    Raises OSError: EXDEV where it would leave the root, which every absolute link does; ELOOP for too many links or
    steps; EAGAIN where what was a link a moment ago no longer is, or the other way round (try again); what open(2)
    raises.
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
