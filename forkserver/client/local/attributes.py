"""Time, permissions and etag of a local file that was fetched. Runs in the client.

An extended attribute (xattr(7)) of the file holds the server's etag, and the size and the time that the file had when
it was fetched. So the attribute also tells whether somebody has changed the file since. On a file system without
extended attributes no etag is known.
"""

from __future__ import annotations

import functools
import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forkserver.client.content import Known, Version

_ETAG = "user.fsget.etag"
_ORDINARY_MODE = 0o666
_EXECUTE = 0o111


def give_metadata(fd: int, known: Known) -> None:
    """Set permissions and modification time of the file ``fd``, and note its etag. Raises OSError."""
    os.fchmod(fd, permissions(known) & ~_umask())
    give_version(fd, known.version)


def give_version(fd: int, version: Version) -> None:
    """Set the modification time of the complete file ``fd``, and note its etag. Raises OSError."""
    # Not contextlib.suppress, which would take longer: this runs for every small file of a tree.
    try:
        os.utime(fd, ns=(version.mtime_ns, version.mtime_ns))
    except OverflowError:
        pass  # no local file can have this time
    found = os.fstat(fd)
    try:
        os.setxattr(fd, _ETAG, f"{version.etag} {found.st_size} {found.st_mtime_ns}".encode("ascii"))
    except OSError:
        pass  # the file system has no such attributes


def permissions(known: Known) -> int:
    """Return the permission bits of the local file, before the umask is applied."""
    return _ORDINARY_MODE | (known.mode & _EXECUTE)


def etag_of(directory_fd: int, name: bytes) -> str | None:
    """Return the etag noted with the file ``name``. None: no etag is noted, or somebody has changed the file since."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    except OSError:
        return None
    try:
        return etag_of_open(fd)
    finally:
        os.close(fd)


def etag_of_open(fd: int) -> str | None:
    """Return the etag noted with the open file ``fd``, as ``etag_of`` does."""
    try:
        found = os.fstat(fd)
        etag, _, rest = os.getxattr(fd, _ETAG).decode("ascii", "replace").partition(" ")
    except OSError:
        return None
    unchanged = stat.S_ISREG(found.st_mode) and rest == f"{found.st_size} {found.st_mtime_ns}"
    return etag if unchanged else None


@functools.cache
def _umask() -> int:
    # The umask can only be read by setting it. Files that another thread creates meanwhile get the umask set here, so
    # read it once.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
