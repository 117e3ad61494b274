"""The part of an unfinished long file that one run keeps for the next, and the list that verifies its pieces.

Runs in the client. A file longer than one piece is fetched piece by piece, each verified by a digest of its own as it
comes. Until all pieces are there, the file lies beside its place as ``.fsget-NAME.part``. The list,
``.fsget-NAME.sums``, says of which version of which file the part is, and has a line for each verified piece. The next
run hashes the pieces again and compares them with these lines: a line is written after its piece, but a power failure
keeps no order.

The list also notes how much of the beginning of a piece was written, while the rest was still to come. Nothing vouches
for such a beginning: the next run asks the server for its digest. So a run that is killed loses less than
``STEP_BYTES`` of each piece on its way, of which every connection has one.

Pieces may come from several servers, and from several versions of a server's file, for its validator changes with its
permissions, too. Each line says which version, of which server, its piece was taken from: only the pieces of one and
the same version are known to belong together. The others are in doubt until the server has given their digests, too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
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
"""How much of a piece is written between two notes of that. The notes take less than a hundredth of the time."""
PREFIX = b".fsget-"
"""Of every name that is ours beside a target. No file of that name is ever fetched."""

PART = b".part"
SUMS = b".sums"
_OWN = PREFIX + os.urandom(8).hex().encode("ascii") + b"-%x"
_TEMPORARY = re.compile(re.escape(PREFIX) + rb"[0-9a-f]{16}-[0-9a-f]{1,16}")
_numbers = itertools.count()
_MAX_NAME_BYTES = 255
_MAX_SUMS_BYTES = 1 << 28
_MAGIC = "fsget "
_HEADER = re.compile(r"fsget 1 piece=(\d{1,10}) size=(\d{1,19}) etag=(\S{1,128}) mtime=(-?\d{1,20}) server=(\S{1,300})")
_BEGUN = re.compile(r"begun (\d{1,12}) (\d{1,10})")
_LINE = re.compile(r"(\d{1,12}) ([0-9a-f]{64}) (\S{1,128}) (\S{1,300})")
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Piece(NamedTuple):
    """A verified piece: its SHA-256 in hexadecimal digits, and the ``Version.origin`` that vouches for it."""

    digest: str
    origin: tuple[str, str]


_NOTHING = Version(0, "-", 0, "-")


class BeingFetched(Exception):
    """Another process has this very file in work."""


class Partial:
    """The part of ``name``, in the directory ``directory_fd``, that is here of ``version``; a context manager.

    Entering opens or creates the part. Entering discards a part of another size, with another mtime for the same etag
    and server, or without a valid header; then ``discarded`` is true. Pieces of another version of the same size, be it
    another server's or one of another etag, are only in doubt. Leaving keeps the part, unless ``remove`` was called or
    the part holds nothing. Methods raise OSError; entering also BeingFetched.
    """

    def __init__(self, directory_fd: int, name: bytes, version: Version) -> None:
        self.path, self._sums_path = names_beside(name)
        self.version = version
        self.discarded = False
        self.verified_bytes = 0
        """How much of the file is here and right."""
        self.fd = -1
        self._directory_fd = directory_fd
        self._sums_fd = -1
        self._pieces: dict[int, Piece] = {}
        self._begun: dict[int, int] = {}
        self._completed = False

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
            if not (self._completed or self.kept_bytes):
                self.remove()
        finally:
            self._close()

    @property
    def kept_bytes(self) -> int:
        """The number of bytes worth keeping: of pieces, and of beginnings of pieces."""
        return self.verified_bytes + sum(self._begun.values())

    @property
    def beginning_bytes(self) -> int:
        """The number of bytes from the beginning of the file to the first gap."""
        return next((offset for offset, _ in self.missing()), self.version.size)

    def missing(self) -> Iterator[tuple[int, int]]:
        """Offset and length of every piece that is not here, in order."""
        for index in range(-(-self.version.size // PIECE_BYTES)):
            if index not in self._pieces:
                yield index * PIECE_BYTES, self._length(index)

    def doubtful(self) -> Iterator[tuple[int, int, str]]:
        """Offset, length and digest of every piece that ``version`` does not vouch for, in order."""
        for index, piece in sorted(self._pieces.items()):
            if piece.origin != self.version.origin:
                yield index * PIECE_BYTES, self._length(index), piece.digest

    def begun(self) -> Iterator[tuple[int, int, str]]:
        """Yield offset, length and digest of every beginning of a piece that an earlier run has left, in order."""
        for index, length in sorted(self._begun.items()):
            data = os.pread(self.fd, length, index * PIECE_BYTES)
            if len(data) == length < self._length(index):
                yield index * PIECE_BYTES, length, hashlib.sha256(data).hexdigest()

    def written(self, offset: int, length: int) -> None:
        """Note how much of a piece is in the file, now that ``length`` bytes at ``offset`` are."""
        index, before = divmod(offset, PIECE_BYTES)
        here = (before + length) // STEP_BYTES * STEP_BYTES
        if before < here < self._length(index):
            self._begun[index] = here
            os.write(self._sums_fd, b"begun %d %d\n" % (index, here))

    def note(self, offset: int, digest: str, version: Version) -> None:
        """Record in the list that the piece at ``offset`` is verified and of ``version``."""
        index = offset // PIECE_BYTES
        self._add(index, Piece(digest, version.origin))
        os.write(self._sums_fd, f"{index} {digest} {version.etag} {version.server}\n".encode())

    def forget(self, offset: int) -> None:
        """Drop the piece at ``offset`` for this run; its line stays in the list."""
        if self._pieces.pop(offset // PIECE_BYTES, None):
            self.verified_bytes -= self._length(offset // PIECE_BYTES)

    def adopt(self, version: Version) -> None:
        """Set the version that the part is to become, and write its header to the list."""
        self.version = version
        os.write(self._sums_fd, _header(version))

    def remove(self) -> None:
        """Delete the part and the list. Call this before leaving, while the lock is held."""
        self._pieces.clear()
        self._begun.clear()
        self.verified_bytes = 0
        for path in (self._sums_path, self.path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path, dir_fd=self._directory_fd)

    def cut(self) -> None:
        """Truncate the part to the size of the version."""
        os.ftruncate(self.fd, self.version.size)

    def complete(self, name: bytes) -> None:
        """Delete the list and give the part the name ``name``, once all pieces are here."""
        # The list first: another run may begin anew as soon as the name is free, and makes its own.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._sums_path, dir_fd=self._directory_fd)
        os.rename(self.path, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
        self._completed = True

    def _open_locked(self) -> bool:
        """Open and lock the part. Return whether the locked file still has the name: another run may have completed it.

        Raises BeingFetched where another process has the lock.
        """
        fd = os.open(self.path, _FLAGS, 0o600, dir_fd=self._directory_fd)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(self.path, dir_fd=self._directory_fd, follow_symlinks=False), os.fstat(fd)):
                self.fd, fd = fd, -1
        except BlockingIOError:
            raise BeingFetched from None
        except FileNotFoundError:
            pass
        finally:
            if fd >= 0:
                os.close(fd)
        return self.fd >= 0

    def _load(self) -> None:
        """Read the list of an earlier run, and take the pieces of the part that have the digests in the list."""
        with open(os.dup(self._sums_fd), "rb") as file:
            lines = file.read(_MAX_SUMS_BYTES).decode("utf-8", "replace").split("\n")
        # The last line has no line feed where its writer was killed in it. Of several headers the last holds.
        headers = [header for line in lines[:-1] if line.startswith(_MAGIC) and (header := _parse_header(line))]
        if headers and lines[0].startswith(_MAGIC) and self._may_go_on(headers[-1]):
            for index, piece in _parse_lines(lines[:-1]).items():
                if self._has(index, piece.digest):
                    self._add(index, piece)
            self._begun = {i: length for i, length in _parse_begun(lines[:-1]).items() if i not in self._pieces}
            if self.kept_bytes and headers[-1] != self.version:
                self.adopt(self.version)
        else:
            self.discarded = bool(lines[0])
        if not self.kept_bytes:
            self._begin_anew()

    def _may_go_on(self, before: Version) -> bool:
        # One etag of one server stands for one version. Do not trust a server that reports another mtime for the etag.
        return before == self.version or (before.size == self.version.size and before.origin != self.version.origin)

    def _begin_anew(self) -> None:
        os.ftruncate(self.fd, 0)
        os.ftruncate(self._sums_fd, 0)
        os.write(self._sums_fd, _header(self.version))

    def _has(self, index: int, digest: str) -> bool:
        length = self._length(index)
        if length <= 0:
            return False
        data = os.pread(self.fd, length, index * PIECE_BYTES)
        return len(data) == length and hashlib.sha256(data).hexdigest() == digest

    def _add(self, index: int, piece: Piece) -> None:
        if index not in self._pieces:
            self.verified_bytes += self._length(index)
        self._begun.pop(index, None)
        self._pieces[index] = piece

    def _length(self, index: int) -> int:
        return min(PIECE_BYTES, self.version.size - index * PIECE_BYTES)

    def _close(self) -> None:
        for fd in (self.fd, self._sums_fd):
            if fd >= 0:
                os.close(fd)
        self.fd = self._sums_fd = -1


def find(directory_fd: int, name: bytes) -> Version | None:
    """Return the version in the first header of the list of ``name``; None: no valid one. Raises OSError."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would wait for its writer
        fd = os.open(names_beside(name)[1], flags, dir_fd=directory_fd)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    with open(fd, "rb") as file:
        return _parse_header(file.readline(1024).decode("utf-8", "replace").rstrip("\n"))


def temporary_name() -> bytes:
    """Return a name that nobody else has.

    Only the process draws random bytes, for a draw for each of thousands of files would take longer than its content.
    """
    return _OWN % next(_numbers)


def is_temporary(name: object) -> bool:
    """Return whether ``name`` is one of those that ``temporary_name`` gives to this process and to others."""
    return isinstance(name, bytes) and _TEMPORARY.fullmatch(name) is not None


def is_own(temporary: bytes) -> bool:
    """Return whether ``temporary_name`` gave this name to this very process."""
    return temporary.startswith(_OWN.removesuffix(b"%x"))


def hold(fd: int) -> bool:
    """Lock a temporary file that was just made, so that no other run takes it for the leftover of a killed run.

    Return whether the file is still there: another run may have come between.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False  # the other run is about to remove it
    except OSError:
        pass  # no locks in this file system: no other run can have one, and so none removes the file
    return os.fstat(fd).st_nlink > 0


def discard(directory_fd: int, name: bytes) -> None:
    """Remove what an earlier run has left of ``name``, unless somebody is at it. Raises OSError."""
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


def _parse_lines(lines: list[str]) -> dict[int, Piece]:
    """Return the pieces by their numbers; of several lines for one piece the last holds."""
    return {int(found[1]): Piece(found[2], (found[3], found[4])) for line in lines if (found := _LINE.fullmatch(line))}


def _parse_begun(lines: list[str]) -> dict[int, int]:
    """Return the length of each noted beginning of a piece, by the number of the piece."""
    begun = ((int(found[1]), int(found[2])) for line in lines if (found := _BEGUN.fullmatch(line)))
    return {index: length for index, length in begun if 0 < length < PIECE_BYTES}
