"""Keep the part of an unfinished long file for the next run, with the list that verifies it. Runs in the client.

A file longer than one piece is fetched piece by piece. Each piece has a digest of its own and is verified when it has
come. Until all pieces are there, the file lies beside its place as ``.fsget-NAME.part``. The list is the file
``.fsget-NAME.sums``. It says which version of which file the part belongs to, and has a line for each verified piece.
The next run hashes the pieces again and compares them with these lines. A line is written after its piece, but a power
failure may keep the line and lose the piece.

The list also notes how much of the beginning of a piece was written, while the rest was still to come. No digest
verifies such a beginning, so the next run asks the server for its digest. A run that is killed therefore loses less
than ``STEP_BYTES`` of each piece on its way. Of the pieces that a connection has requested, one arrives at a time.

Pieces may come from several servers. They may also come from several versions of a server's file, because the etag
changes with the permissions, too. Each line says from which version, of which server, its piece was taken. Only pieces
of the same version are known to belong together. The others are in doubt until the server has given their digests.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import itertools
import os
import re
from typing import TYPE_CHECKING, NamedTuple, Self

from forkserver.client.content import Version

if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE_BYTES = 1 << 22
"""A lost connection costs half a piece on average. A request for a piece costs little compared with sending it."""
STEP_BYTES = 1 << 19
"""How much of a piece is written between two notes in the list. The notes take less than a hundredth of the time."""
PREFIX = b".fsget-"
"""The beginning of every name that fsget uses beside a target. No file of such a name is ever fetched."""

PART = b".part"
SUMS = b".sums"
_TEMPORARY = re.compile(re.escape(PREFIX) + rb"[0-9a-f]{16}-[0-9a-f]{1,16}")
_numbers = itertools.count()
_MAX_NAME_BYTES = 255
_MAX_SUMS_BYTES = 1 << 28
_MAGIC = "fsget "
_HEADER = re.compile(r"fsget 1 piece=(\d{1,10}) size=(\d{1,19}) etag=(\S{1,128}) mtime=(-?\d{1,20}) server=(\S{1,300})")
_BEGUN = re.compile(r"begun (\d{1,12}) (\d{1,10})")
_LINE = re.compile(r"(\d{1,12}) ([0-9a-f]{64}) (\S{1,128}) (\S{1,300})")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NOTHING = Version(0, "-", 0, "-")


class Piece(NamedTuple):
    """A verified piece: its SHA-256 in hexadecimal digits, and the ``Version.origin`` that the piece was taken from."""

    digest: str
    origin: tuple[str, str]


class BeingFetched(Exception):
    """Another process is fetching the same file."""


class Partial:
    """The part of ``version`` of the file ``name`` in the directory ``directory_fd``; a context manager.

    Entering opens or creates the part. Entering discards a part of another size, with another mtime for the same etag
    and server, or without a valid header; then ``discarded`` is true, unless the list was empty. Pieces of another
    version of the same size, from another server or with another etag, are only in doubt. Leaving keeps the part,
    unless ``remove`` was called or the part holds nothing. Methods raise OSError; entering also raises BeingFetched.
    """

    def __init__(self, directory_fd: int, name: bytes, version: Version) -> None:
        self.version = version
        self.discarded = False
        self.fd = -1
        self._path, self._sums_path = names_beside(name)
        self._directory_fd = directory_fd
        self._sums_fd = -1
        self._pieces: dict[int, Piece] = {}
        """The verified pieces, by their offsets."""
        self._begun: dict[int, int] = {}
        """How many bytes of the beginning of a piece are in the file, by the offset of the piece."""

    def __enter__(self) -> Self:
        try:
            while not self._open_locked():
                pass
            self._sums_fd = os.open(self._sums_path, _FLAGS | os.O_APPEND, 0o600, dir_fd=self._directory_fd)
            self._load()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if not self.kept_bytes:  # after ``complete`` all pieces are here, so this removes nothing
                self.remove()
        finally:
            self._close()

    @property
    def verified_bytes(self) -> int:
        """The number of bytes of verified pieces."""
        # Copy the offsets: another thread may note a piece meanwhile.
        return sum(map(self._length, list(self._pieces)))

    @property
    def kept_bytes(self) -> int:
        """The number of bytes worth keeping: of pieces, and of beginnings of pieces."""
        return self.verified_bytes + sum(list(self._begun.values()))

    @property
    def beginning_bytes(self) -> int:
        """The number of bytes from the beginning of the file to the first gap."""
        return next((offset for offset, _ in self.missing()), self.version.size)

    def missing(self) -> Iterator[tuple[int, int]]:
        """Yield offset and length of every piece that is not verified, in order."""
        return (piece for piece in pieces(self.version.size) if piece[0] not in self._pieces)

    def doubtful(self) -> Iterator[tuple[int, int, str]]:
        """Yield offset, length and digest of every piece that was taken from another version, in order."""
        for offset, piece in sorted(self._pieces.items()):
            if piece.origin != self.version.origin:
                yield offset, self._length(offset), piece.digest

    def begun(self) -> Iterator[tuple[int, int, str]]:
        """Yield offset, length and digest of every beginning of a piece that an earlier run has left, in order."""
        for offset, length in sorted(self._begun.items()):
            data = os.pread(self.fd, length, offset)
            if len(data) == length < self._length(offset):
                yield offset, length, hashlib.sha256(data).hexdigest()

    def written(self, offset: int, length: int) -> None:
        """Note how much of a piece is in the file, now that ``length`` bytes at ``offset`` were written."""
        index, before = divmod(offset, PIECE_BYTES)
        start = offset - before
        here = (before + length) // STEP_BYTES * STEP_BYTES
        if before < here < self._length(start):
            self._begun[start] = here
            os.write(self._sums_fd, b"begun %d %d\n" % (index, here))

    def note(self, offset: int, digest: str, version: Version) -> None:
        """Record in the list that the piece at ``offset`` is verified and of ``version``."""
        self._begun.pop(offset, None)
        self._pieces[offset] = Piece(digest, version.origin)
        os.write(self._sums_fd, f"{offset // PIECE_BYTES} {digest} {version.etag} {version.server}\n".encode())

    def forget(self, offset: int) -> None:
        """Drop the piece at ``offset`` for this run. Its line stays in the list."""
        self._pieces.pop(offset, None)

    def adopt(self, version: Version) -> None:
        """Set the version that the part is to become, and write its header to the list."""
        self.version = version
        os.write(self._sums_fd, _header(version))

    def remove(self) -> None:
        """Delete the part and the list. Call this before leaving, while the lock is held."""
        self._pieces.clear()
        self._begun.clear()
        for path in (self._sums_path, self._path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path, dir_fd=self._directory_fd)

    def complete(self, name: bytes) -> None:
        """Delete the list and give the part the name ``name``, once all pieces are verified."""
        # Delete the list first: once the part is renamed, another run may begin anew and create a list of its own.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._sums_path, dir_fd=self._directory_fd)
        os.rename(self._path, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)

    def _open_locked(self) -> bool:
        """Open and lock the part. Return whether the locked file still has the name: another run may have completed it.

        Raises BeingFetched if another process has the lock.
        """
        self._close()  # the file of the attempt before
        self.fd = os.open(self._path, _FLAGS, 0o600, dir_fd=self._directory_fd)
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            named = os.stat(self._path, dir_fd=self._directory_fd, follow_symlinks=False)
        except BlockingIOError:
            raise BeingFetched from None
        except FileNotFoundError:
            return False
        return os.path.samestat(named, os.fstat(self.fd))

    def _load(self) -> None:
        """Read the list of an earlier run, and take the pieces of the part that have the digests in the list."""
        with open(self._sums_fd, "rb", closefd=False) as file:
            lines = file.read(_MAX_SUMS_BYTES).decode("utf-8", "replace").split("\n")
        # The last line has no line feed if its writer was killed while writing it.
        before, listed, begun = _parse(lines[:-1])
        if before and lines[0].startswith(_MAGIC) and self._may_continue(before):
            self._pieces = {offset: piece for offset, piece in listed.items() if self._has(offset, piece.digest)}
            self._begun = {offset: length for offset, length in begun.items() if offset not in self._pieces}
            if self.kept_bytes and before != self.version:
                self.adopt(self.version)
        else:
            self.discarded = bool(lines[0])
        if not self.kept_bytes:
            os.ftruncate(self.fd, 0)
            os.ftruncate(self._sums_fd, 0)
            os.write(self._sums_fd, _header(self.version))

    def _may_continue(self, before: Version) -> bool:
        # One etag of one server stands for one version. Do not trust a server that reports another mtime for the etag.
        return before == self.version or (before.size == self.version.size and before.origin != self.version.origin)

    def _has(self, offset: int, digest: str) -> bool:
        length = self._length(offset)
        if length <= 0:
            return False
        data = os.pread(self.fd, length, offset)
        return len(data) == length and hashlib.sha256(data).hexdigest() == digest

    def _length(self, offset: int) -> int:
        return min(PIECE_BYTES, self.version.size - offset)

    def _close(self) -> None:
        for fd in (self.fd, self._sums_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._sums_fd = -1


def pieces(size: int) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each piece of a content of ``size`` bytes, in order."""
    for offset in range(0, size, PIECE_BYTES):
        yield offset, min(PIECE_BYTES, size - offset)


def find(directory_fd: int, name: bytes) -> Version | None:
    """Return the version in the first line of the list of ``name``; None: no list, or no header. Raises OSError."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a FIFO would wait for its writer
        fd = os.open(names_beside(name)[1], flags, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    with open(fd, "rb") as file:
        return _parse_header(file.readline(1024).decode("utf-8", "replace").rstrip("\n"))


def temporary_name() -> bytes:
    """Return a name that no other file has.

    Random bytes are drawn once for each process: drawing them for each file would take longer than a small content.
    """
    return _own_prefix(os.getpid()) + b"%x" % next(_numbers)


def is_temporary(name: object) -> bool:
    """Return whether ``name`` has the form of the names that ``temporary_name`` returns, in any process."""
    return isinstance(name, bytes) and _TEMPORARY.fullmatch(name) is not None


def is_own(temporary: bytes) -> bool:
    """Return whether ``temporary_name`` returned the name ``temporary`` in this process."""
    return temporary.startswith(_own_prefix(os.getpid()))


@functools.cache
def _own_prefix(pid: int) -> bytes:  # noqa: ARG001 - a forked process must not inherit the random bytes of its parent
    return PREFIX + os.urandom(8).hex().encode("ascii") + b"-"


def hold(fd: int) -> bool:
    """Lock a temporary file that was just created, so that no other run takes it for the leftover of a killed run.

    Return whether the file still has its name: another run may have removed it before it was locked.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # the other run is about to remove it
    except OSError:
        pass  # the file system has no locks, so no other run can lock the file to remove it
    return os.fstat(fd).st_nlink > 0


def discard(directory_fd: int, name: bytes) -> None:
    """Remove the part and the list of ``name``, unless another process uses them. Raises OSError."""
    with contextlib.suppress(BeingFetched), Partial(directory_fd, name, _NOTHING) as kept:
        kept.remove()


def names_beside(name: bytes) -> tuple[bytes, bytes]:
    """Return the names of the part of ``name`` and of its list of digests."""
    stem = PREFIX + name
    if len(stem) > _MAX_NAME_BYTES - len(PART):
        stem = PREFIX + hashlib.sha256(name).hexdigest().encode("ascii")
    return stem + PART, stem + SUMS


def _header(version: Version) -> bytes:
    size, etag, mtime_ns, server = version
    return f"{_MAGIC}1 piece={PIECE_BYTES} size={size} etag={etag} mtime={mtime_ns} server={server}\n".encode()


def _parse_header(line: str) -> Version | None:
    found = _HEADER.fullmatch(line)
    if not found or int(found[1]) != PIECE_BYTES:
        return None
    return Version(int(found[2]), found[3], int(found[4]), found[5])


def _parse(lines: list[str]) -> tuple[Version | None, dict[int, Piece], dict[int, int]]:
    """Return the version in the last valid header, the pieces, and the lengths of noted beginnings of pieces.

    Pieces and beginnings are keyed by the offset of the piece. Of several lines for one piece the last holds.
    """
    version: Version | None = None
    listed: dict[int, Piece] = {}
    begun: dict[int, int] = {}
    for line in lines:
        if found := _LINE.fullmatch(line):
            listed[int(found[1]) * PIECE_BYTES] = Piece(found[2], (found[3], found[4]))
        elif found := _BEGUN.fullmatch(line):
            if 0 < int(found[2]) < PIECE_BYTES:
                begun[int(found[1]) * PIECE_BYTES] = int(found[2])
        else:
            version = _parse_header(line) or version
    return version, listed, begun
