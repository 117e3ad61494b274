"""A complete file that is here under its name: what of it is to be compared with the server's. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from forkserver.client.local import validator
from forkserver.client.local.attributes import give_metadata
from forkserver.client.local.partial import PIECE_BYTES

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
        """The etag noted with the file; None: none is, or somebody has changed the file since."""
        return validator.read_open(self._fd)

    def parts(self) -> Iterator[tuple[int, int]]:
        """Yield offset and length of each piece of the file, in order."""
        for offset in range(0, self.size, PIECE_BYTES):
            yield offset, min(PIECE_BYTES, self.size - offset)

    def read(self, offset: int, length: int) -> bytes:
        """Return ``length`` bytes from ``offset``; fewer, or none, where they cannot be read."""
        try:
            return os.pread(self._fd, length, offset)
        except OSError:
            return b""

    def confirm(self, known: Known) -> bool:
        """Give the file the metadata of ``known``, whose content it has. Returns whether that can be said of the file.

        Not where somebody has written to the file or replaced it since it was opened, nor where its metadata is not
        ours to set: then the content is to be fetched again.
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
    """Open the regular file ``name`` in ``directory_fd``; None where there is none, or it cannot be read."""
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
