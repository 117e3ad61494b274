"""Where a content goes: a local file that appears whole or not at all, or standard output. Runs at the user's."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from typing import TYPE_CHECKING, Protocol, Self

from forkserver.client.display import count, escape
from forkserver.client.outcome import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_RESERVE_BYTES = 1 << 26
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_ORDINARY_MODE = 0o666
_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.ENOENT: "no such directory",
    errno.ENOTDIR: "not a directory",
}


class Target(Protocol):
    """Takes one content, in this order: ``begin``, ``write`` as often as needed, and ``finish`` if all of it is right.

    Each raises Failure with ``Exit.LOCAL_DISK``.
    """

    def begin(self, size: int) -> None:
        """The server has the file; ``size`` bytes will follow."""

    def write(self, data: memoryview) -> None:
        """Take a piece."""

    def finish(self, mtime_ns: int) -> None:
        """Length and digest are right; ``mtime_ns`` is the file's last modification, nanoseconds since 1970."""


class LocalFile:
    """A file that takes its name only when it is complete: until then it is a temporary one beside its place.

    A context manager: entering checks the place before the server is troubled, leaving removes what is not finished.
    ``remedy`` is what to do if the place is that of a directory.
    """

    def __init__(self, path: bytes, remedy: str = "") -> None:
        self._path = path
        self._in_directory = "is a directory, and is left as it is" + (f"; {remedy}" if remedy else "")
        directory, self._name = os.path.split(path)
        self._directory = directory or b"."
        self._directory_fd = -1
        self._fd = -1
        self._temporary: bytes | None = None
        self._size = 0
        self._reserved = 0
        self._written = 0

    def __enter__(self) -> Self:
        with self._complaints():
            self._directory_fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self._check_place()
        except BaseException:
            os.close(self._directory_fd)
            raise
        return self

    def _check_place(self) -> None:
        if self._name in (b"", b".", b".."):
            raise self._failure(self._in_directory)
        with self._complaints():
            try:
                mode = os.lstat(self._name, dir_fd=self._directory_fd).st_mode
            except FileNotFoundError:
                return
        # A symbolic link is replaced, not followed: nothing is ever written through one.
        if stat.S_ISDIR(mode):
            raise self._failure(self._in_directory)
        if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
            raise self._failure("is not a regular file, and is left as it is")

    def begin(self, size: int) -> None:
        """Create the temporary file and reserve its space, so that a full disk shows before anything is transferred."""
        temporary = b".fsget-" + os.urandom(8).hex().encode("ascii")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with self._complaints(size):
            # Noted first: a signal may end us between the two lines.
            self._temporary = temporary
            self._fd = os.open(temporary, flags, 0o600, dir_fd=self._directory_fd)
            self._size = size
            self._check_space()
            self._reserve()

    def _check_space(self) -> None:
        disk = os.fstatvfs(self._fd)
        free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
        if disk.f_blocks and self._size > free:  # without blocks: a file system that does not tell
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _reserve(self) -> None:
        """Reserve the next part of the file.

        In parts, for where a file system cannot, the C library writes into every block instead: on the word of a server
        that may lie, and without heed for a Ctrl-C.
        """
        length = min(_RESERVE_BYTES, self._size - self._reserved)
        try:
            if length:
                os.posix_fallocate(self._fd, self._reserved, length)
        except OSError as error:
            if error.errno not in _NO_FALLOCATE:
                raise
            length = self._size - self._reserved
        self._reserved += length

    def write(self, data: memoryview) -> None:
        """Append a piece."""
        with self._complaints():
            self._written += len(data)
            if self._written > self._reserved:
                self._reserve()
            _write_all(self._fd, data)

    def finish(self, mtime_ns: int) -> None:
        """Give the file its time, its permissions and its name, and make all that durable."""
        with self._complaints():
            os.fchmod(self._fd, _ORDINARY_MODE & ~_umask())
            with contextlib.suppress(OverflowError):  # A time no file can have here.
                os.utime(self._fd, ns=(mtime_ns, mtime_ns))
            os.fsync(self._fd)
            if self._temporary is None:
                raise AssertionError("finish comes after begin")
            os.rename(self._temporary, self._name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            self._temporary = None
            with _tolerating(errno.EINVAL):  # A file system that cannot sync directories.
                os.fsync(self._directory_fd)

    def __exit__(self, *_: object) -> None:
        try:
            if self._temporary is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=self._directory_fd)
        finally:
            if self._fd >= 0:
                os.close(self._fd)
            os.close(self._directory_fd)

    @contextlib.contextmanager
    def _complaints(self, size: int = 0) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
            if size and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                reason += f"; {count(size)} bytes are needed"
            raise self._failure(reason) from error

    def _failure(self, reason: str) -> Failure:
        return Failure(Exit.LOCAL_DISK, "local-disk", f"local file {escape(self._path)}: {reason}")


class StandardOutput:
    """Passes everything on as it comes, before it is verified: only the exit status tells whether it was right.

    A reader that has gone raises BrokenPipeError.
    """

    def begin(self, size: int) -> None:
        """Nothing to prepare."""

    def write(self, data: memoryview) -> None:
        """Pass a piece on."""
        with output_complaints():
            check_output()
            _write_all(sys.stdout.fileno(), data)

    def finish(self, mtime_ns: int) -> None:
        """Nothing to finish."""


def check_output() -> None:
    """Raise OSError if standard output was closed before we were started: descriptor 1 may be anything by now."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def output_complaints() -> Iterator[None]:
    """Turn a failure to write standard output into a Failure. BrokenPipeError passes: it wants another, silent end."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(Exit.LOCAL_DISK, "local-disk", f"standard output: {error.strerror or error}") from error


@contextlib.contextmanager
def _tolerating(number: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != number:
            raise


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _umask() -> int:
    # It can only be read by setting it; no other thread of ours could create a file meanwhile.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
