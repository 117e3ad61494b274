"""Read a complete local file, to compare its content with that of the server's file. Runs in the client."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from forkserver.client.local.attributes import etag_of_open, give_metadata
from forkserver.client.local.partial import pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.content import Known

_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class CompleteFile:
    """The regular file ``name`` in the directory ``directory_fd``, opened for reading as ``fd``; ``size`` in bytes."""

    def __init__(self, directory_fd: int, name: bytes, fd: int) -> None:
        self._directory_fd = directory_fd
        self._name = name
        self._fd = fd
        self._opened = os.fstat(fd)
        self.size = self._opened.st_size

    @property
    def etag(self) -> str | None:
        """The etag noted with the file. None: no etag is noted, or somebody has changed the file since."""
        return etag_of_open(self._fd)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield offset and length of each piece of the file, in order."""
        return pieces(self.size)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``, or fewer bytes, or none, if the file cannot be read there."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError:
            return b""

    def confirm(self, known: Known) -> bool:
        """Give the file the metadata of ``known``, whose content the file has. Return whether that succeeded.

        Return False if somebody has written to the file or replaced it since it was opened, or if the user may not set
        its metadata. The caller must then fetch the content again.
        """
        try:
            now = os.stat(self._name, dir_fd=self._directory_fd, follow_symlinks=False)
            if _version(now) != _version(self._opened):
                return False
            if self.etag != known.version.etag:
                give_metadata(self._fd, known)
        except OSError:
            return False
        return True


@contextlib.contextmanager
def complete_file(directory_fd: int, name: bytes) -> Iterator[CompleteFile | None]:
    """Open the regular file ``name`` in ``directory_fd``. Yield None if it is missing or cannot be read."""
    fd = -1
    with contextlib.suppress(OSError):
        fd = os.open(name, _FLAGS, dir_fd=directory_fd)
    try:
        is_regular = fd >= 0 and stat.S_ISREG(os.fstat(fd).st_mode)
        yield CompleteFile(directory_fd, name, fd) if is_regular else None
    finally:
        if fd >= 0:
            os.close(fd)


def _version(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
