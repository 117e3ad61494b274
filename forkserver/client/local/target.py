"""Write a local file so that it appears whole or not at all. Runs in the client."""

from __future__ import annotations

import contextlib
import enum
import errno
import os
import stat
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from forkserver.client.content import Version
from forkserver.client.display import counted, escape
from forkserver.client.local import checksums, partial
from forkserver.client.local.attributes import give_metadata
from forkserver.client.local.partial import PIECE_BYTES, STEP_BYTES, BeingFetched, Partial
from forkserver.client.outcome import Exit, Failure, Reach, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.content import Known

_RESERVE_BYTES = 1 << 26
_SMALL_BYTES = 1 << 16
"""A file of up to this size is written at once. To reserve space for it first would gain nothing."""
NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to create a temporary file beside the place of a file."""
_NO_FALLOCATE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_DIRECTORY = "is a directory, and is left as it is"
RESERVED = f"names that begin with {partial.PREFIX.decode()} are kept for what is not complete"
_REASONS = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than is allowed here",
    errno.ENAMETOOLONG: "the name is too long for this file system",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.ENOENT: "no such directory",
    errno.ENOTDIR: "not a directory",
    errno.EISDIR: _IN_DIRECTORY,
}


class Durable(enum.IntEnum):
    """How much of a file survives a power failure, once the client has told that the file is fetched."""

    NONE = 0
    FILE = 1
    """The content of the file. Its name may be lost."""
    DIR = 2
    """The name, too."""


class LocalFile:
    """A file that gets its name only when it is complete. Until then its bytes are in another file beside its place.

    A context manager. Entering raises Failure if no file may replace what is at ``path``. Leaving removes an unfinished
    file; of a long file, the verified pieces and the noted beginnings of pieces stay for the next run.

    ``directory_fd`` is the directory of ``path``, and the file gets the last component of ``path``. Messages show
    ``path``; the message about a directory at ``path`` ends in ``remedy``. ``durable`` is what must be on the disk at
    the end.
    """

    takes_any_order = True

    def __init__(self, directory_fd: int, path: bytes, *, remedy: str = "", durable: Durable = Durable.DIR) -> None:
        self._path = path
        self._name = os.path.basename(path)
        self._in_directory = _IN_DIRECTORY + (f"; {remedy}" if remedy else "")
        self._directory_fd = directory_fd
        self._durable = durable
        self._fd = -1
        self._temporary: bytes | None = None
        self._partial: Partial | None = None
        self._size = 0
        self._reserved = 0
        self._digest: str | None = None
        self._complaints = _Complaints(self)
        self._lock = threading.Lock()
        self.discarded = False

    def __enter__(self) -> Self:
        check_name(self._path)
        check_place(self._directory_fd, self._path, self._in_directory)
        return self

    def __exit__(self, *_: object) -> None:
        if self._partial is not None:
            self._partial.__exit__(None, None, None)
            return
        try:
            if self._temporary is not None:
                # The file may never have been created, or be renamed by now. Any other error was reported before.
                with contextlib.suppress(OSError):
                    os.unlink(self._temporary, dir_fd=self._directory_fd)
        finally:
            if self._fd >= 0:
                os.close(self._fd)

    def location(self) -> tuple[int, bytes]:
        """Return the descriptor of the directory, and the name of the file in it."""
        return self._directory_fd, self._name

    def left_over(self) -> bool:
        """Return whether an earlier run has left a part. Raises Failure."""
        with self._complaints:
            return partial.find(self._directory_fd, self._name) is not None

    @property
    def here(self) -> int:
        """The number of verified bytes in the file, including those of an earlier run."""
        if self._partial is not None:
            return self._partial.verified_bytes
        return self._size if self._digest else 0

    @property
    def kept(self) -> int:
        """The number of bytes that the next run will find if this run ends now."""
        return self._partial.kept_bytes if self._partial is not None else 0

    def begin(self, version: Version) -> Iterable[tuple[int, int]]:
        """Create the file that takes the bytes, or open the part that an earlier run has left.

        Return offset and length of each missing piece. Raises Failure.
        """
        self._size = version.size
        with _Complaints(self, version.size):
            if self._size > PIECE_BYTES:
                try:
                    self._partial = Partial(self._directory_fd, self._name, version).__enter__()
                except BeingFetched:
                    raise local_failure(self._path, "another fsget is fetching it") from None
                self._fd = self._partial.fd
                self.discarded = self._partial.discarded
                self._reserved = self._partial.beginning_bytes
                self._secure_space(self._size - self.here)
                return self._partial.missing()
            if partial.find(self._directory_fd, self._name) is not None:
                partial.discard(self._directory_fd, self._name)  # the file had several pieces then
            while self._fd < 0:
                # Note the name first: a signal may end the run between the two lines.
                self._temporary = partial.temporary_name()
                self._fd = os.open(self._temporary, NEW, 0o600, dir_fd=self._directory_fd)
                if not partial.hold(self._fd):
                    os.close(self._fd)
                    self._fd = -1
            if self._size > _SMALL_BYTES:
                self._secure_space(self._size)
            else:
                self._reserved = self._size
        return [(0, self._size)]

    def _secure_space(self, size: int) -> None:
        """Raise OSError if the disk has no room for ``size`` bytes, so that the run fails before it transfers any."""
        disk = os.fstatvfs(self._fd)
        free = (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail) * disk.f_frsize
        if disk.f_blocks and size > free:  # a file system without blocks does not tell its size
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._reserve()

    def _reserve(self) -> None:
        """Reserve the next 64 MiB of the file, but not the whole file.

        On a file system that cannot reserve space, the C library writes into every block, and Ctrl-C does not stop it.
        The size comes from a server that may lie.
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

    def write(self, offset: int, data: memoryview) -> None:
        """Reserve space if needed, and write ``data`` at ``offset`` of the file. Raises Failure."""
        with self._complaints:
            if offset + len(data) > self._reserved:
                with self._lock:
                    while offset + len(data) > self._reserved:
                        self._reserve()
            begin = offset
            while data:
                written = os.pwrite(self._fd, data, offset)
                data, offset = data[written:], offset + written
            if self._partial is not None and offset // STEP_BYTES > begin // STEP_BYTES:
                self._partial.written(begin, offset - begin)

    def verified(self, offset: int, length: int, digest: str, version: Version) -> None:  # noqa: ARG002 - other targets need it
        """Note that the piece at ``offset`` is of ``version`` and has the SHA-256 ``digest``. Raises Failure."""
        self._digest = digest
        if self._partial is not None:
            with self._complaints, self._lock:
                self._partial.note(offset, digest, version)

    def begun(self) -> Iterable[tuple[int, int, str]]:
        """Return offset, length and digest of each beginning of a piece that is here. Raises Failure.

        A file of one piece has no such beginnings.
        """
        with self._complaints:
            return list(self._partial.begun()) if self._partial is not None else ()

    def joined(self, offset: int, length: int) -> str:
        """Read the bytes at ``offset`` again, and return their SHA-256 in hexadecimal digits. Raises Failure."""
        with self._complaints:
            return sha256(os.pread(self._fd, length, offset)).hexdigest()

    def vouch_by(self, version: Version) -> None:
        """Note that the file is to become ``version``. Raises Failure."""
        if self._partial is not None and self._partial.version != version:
            with self._complaints:
                self._partial.adopt(version)

    def doubtful(self) -> Iterable[tuple[int, int, str]]:
        """Return offset, length and digest of each piece of another version. A file of one piece has none."""
        return list(self._partial.doubtful()) if self._partial is not None else ()

    def forget(self, offset: int) -> None:
        """Drop the piece at ``offset``, because the version has other bytes there."""
        if self._partial is not None:
            self._partial.forget(offset)

    def finish(self, known: Known) -> None:
        """Give the file its time, permissions, etag and name, and sync them as ``durable`` demands. Raises Failure."""
        with self._complaints:
            if self._partial is not None:
                os.ftruncate(self._fd, self._size)
            give_metadata(self._fd, known)
            sync_content(self._fd, self._durable)
            if self._partial is not None:
                self._partial.complete(self._name)
            elif self._temporary is not None:
                os.rename(self._temporary, self._name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
                self._temporary = None
            sync_name(self._directory_fd, self._durable)

    def digest(self) -> str | None:
        """Return the SHA-256 of the file in hexadecimal digits, None if no piece was verified. Raises Failure.

        Read a file of several pieces again. Before ``begin``, read the complete file that is here.
        """
        with self._complaints:
            if self._partial is not None:
                os.lseek(self._fd, 0, os.SEEK_SET)
                return checksums.sha256_of(self._fd)
            if self._fd < 0:
                fd = os.open(self._name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._directory_fd)
                with open(fd, "rb") as file:
                    return checksums.sha256_of(file.fileno())
        return self._digest

    def reject(self) -> None:
        """Remove the part of a long file. Leaving removes an unfinished short file. An older complete file stays."""
        if self._partial is not None:
            self._partial.remove()

    def explain(self, error: OSError, needed_bytes: int) -> Failure:
        """Return the Failure for ``error``. On a full disk, remove the part, and show ``needed_bytes`` unless 0."""
        reason = reason_of(error)
        if error.errno in _FULL:
            if self._partial is not None:
                self._partial.remove()
            if needed_bytes:
                reason += f"; {counted(needed_bytes, 'byte')} {'is' if needed_bytes == 1 else 'are'} needed"
        return local_failure(self._path, reason, error)


class _Complaints:
    """A context manager that turns every OSError into the Failure of ``file``.

    A class and not a generator, because each ``write`` enters it, and entering a generator takes longer.
    """

    __slots__ = ("_file", "_needed_bytes")

    def __init__(self, file: LocalFile, needed_bytes: int = 0) -> None:
        self._file = file
        self._needed_bytes = needed_bytes

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._file.explain(error, self._needed_bytes) from error


@contextlib.contextmanager
def local_file(path: bytes, remedy: str = "", durable: Durable = Durable.DIR) -> Iterator[LocalFile]:
    """Open the directory of ``path``, and yield the ``LocalFile`` at ``path``. Raises Failure."""
    with directory_of(path) as directory_fd, LocalFile(directory_fd, path, remedy=remedy, durable=durable) as target:
        yield target


@contextlib.contextmanager
def directory_of(path: bytes) -> Iterator[int]:
    """Yield a descriptor of the directory that contains ``path``, or will contain it. Raises Failure."""
    with complaints(path):
        fd = os.open(os.path.dirname(path) or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


def check_name(path: bytes) -> None:
    """Raise Failure if the last component of ``path`` is a name that fsget keeps for unfinished files."""
    if os.path.basename(path).startswith(partial.PREFIX):
        raise local_failure(path, RESERVED)


def check_place(directory_fd: int, path: bytes, in_directory: str = _IN_DIRECTORY) -> None:
    """Raise Failure if no file may replace the last component of ``path`` in the directory ``directory_fd``.

    ``in_directory`` is the reason to give if a directory is there.
    """
    name = os.path.basename(path)
    if name in (b"", b".", b".."):
        raise local_failure(path, in_directory)
    try:
        mode = os.lstat(name, dir_fd=directory_fd).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise local_failure(path, reason_of(error)) from error
    # A symbolic link is replaced, not followed: fsget never writes through a symbolic link.
    if stat.S_ISDIR(mode):
        raise local_failure(path, in_directory)
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise local_failure(path, "is not a regular file, and is left as it is")
    if stat.S_ISLNK(mode) and _leads_to_a_device(directory_fd, name):
        raise local_failure(path, "is a link to a device or the like, and is left as it is")


def _leads_to_a_device(directory_fd: int, name: bytes) -> bool:
    """Return whether a link leads to a device, or into /dev or /proc: such links, as /dev/stderr, are the system's."""
    try:
        if os.readlink(name, dir_fd=directory_fd).startswith((b"/dev/", b"/proc/")):
            return True
        mode = os.stat(name, dir_fd=directory_fd).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def sync_content(fd: int, durable: Durable) -> None:
    """Sync the content of the file ``fd``, before the file is given its name. Raises OSError."""
    if durable >= Durable.FILE:
        os.fsync(fd)


def sync_name(directory_fd: int, durable: Durable) -> None:
    """Sync the directory ``directory_fd``, after a file was given its name in it. Raises OSError."""
    if durable >= Durable.DIR:
        try:
            os.fsync(directory_fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # the file system cannot sync directories
                raise


@contextlib.contextmanager
def complaints(path: bytes) -> Iterator[None]:
    """Turn an OSError about the local file ``path`` into a Failure."""
    try:
        yield
    except OSError as error:
        raise local_failure(path, reason_of(error)) from error


def reason_of(error: OSError) -> str:
    """Return a clause for people that tells why a local operation failed."""
    return _REASONS.get(error.errno or 0) or error.strerror or str(error)


def local_failure(path: bytes, reason: str, error: OSError | None = None) -> Failure:
    """Return the Failure of the local file ``path``. ``error`` decides its reach; without ``error``, the file alone."""
    failure = Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"local file {escape(path)}: {reason}")
    if error is not None:
        failure.reach = _reach_of(error)
    return failure


def _reach_of(error: OSError) -> Reach:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Reach.RUN
    # A rename may be forbidden because of the older file alone, in a directory with the sticky bit.
    creating = partial.is_temporary(error.filename) and error.filename2 is None
    if error.errno == errno.EROFS or (creating and error.errno in (errno.EACCES, errno.EPERM)):
        return Reach.DIRECTORY
    return Reach.FILE
