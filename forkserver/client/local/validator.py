"""The server's validator of a file, noted with the file itself. Runs at the user's.

An extended attribute (xattr(7)) holds the etag, and size and time of the file when it was fetched: so it tells, too,
whether somebody has changed the file since. On a file system without such attributes nothing is known.
"""

from __future__ import annotations

import os
import stat

_ATTRIBUTE = "user.fsget.etag"


def note(fd: int, etag: str) -> None:
    """Note the etag of a file that has its final time."""
    found = os.fstat(fd)
    try:
        os.setxattr(fd, _ATTRIBUTE, f"{etag} {found.st_size} {found.st_mtime_ns}".encode("ascii"))
    except OSError:
        return  # no such attributes here


def read(directory_fd: int, name: bytes) -> str | None:
    """The etag noted with ``name``; None where there is none, or the file was changed since."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError:
        return None
    try:
        return read_open(fd)
    finally:
        os.close(fd)


def read_open(fd: int) -> str | None:
    """Return the etag noted with the open file ``fd``, as ``read`` does."""
    try:
        found = os.fstat(fd)
        etag, _, rest = os.getxattr(fd, _ATTRIBUTE).decode("ascii", "replace").partition(" ")
    except OSError:
        return None
    unchanged = stat.S_ISREG(found.st_mode) and rest == f"{found.st_size} {found.st_mtime_ns}"
    return etag if unchanged else None
