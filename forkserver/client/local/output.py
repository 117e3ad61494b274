"""Pass a content on to an output that cannot take it back: standard output, FIFO or device. Runs in the client."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.local.partial import PIECE_BYTES, pieces
from forkserver.client.local.target import complaints, local_failure
from forkserver.client.outcome import Exit, Failure, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forkserver.client.content import Known, Version


class PassingOn:
    """A ``Target`` that passes on each piece once it is verified. If a later piece fails, the output is incomplete.

    ``put`` writes a whole piece to the output, and raises Failure if that fails.
    """

    discarded = False
    takes_any_order = False

    def __init__(self, put: Callable[[memoryview], None]) -> None:
        self._put = put
        self._piece = bytearray()
        self._hash = sha256()
        self._passed: dict[int, tuple[int, str, tuple[str, str]]] = {}
        self._origin = ("", "")
        self.here = 0

    def reject(self) -> None:
        """Do nothing: the output cannot be taken back."""

    def location(self) -> None:
        """Return None: the content gets no name."""

    def left_over(self) -> bool:
        """Return False: an output keeps no part."""
        return False

    def begin(self, version: Version) -> Iterable[tuple[int, int]]:
        """Return offset and length of every piece. An empty content has one empty piece."""
        self._origin = version.origin
        return pieces(version.size) if version.size else [(0, 0)]

    def write(self, offset: int, data: memoryview) -> None:
        """Keep ``data`` until the piece is verified. A piece that begins again replaces what came before."""
        if offset % PIECE_BYTES == 0:
            self._piece.clear()
        self._piece += data

    def verified(self, offset: int, length: int, digest: str, version: Version) -> None:
        """Pass on the piece at ``offset``, unless it was passed on before. Raises Failure."""
        self._passed[offset] = length, digest, version.origin
        if offset + length <= self.here:
            return
        self.here += length
        self._hash.update(self._piece)
        self._put(memoryview(self._piece))

    def begun(self) -> tuple[()]:
        """Return nothing: an output keeps no part."""
        return ()

    def joined(self, offset: int, length: int) -> str:
        """Raise AssertionError: no piece has a beginning that was here before."""
        raise AssertionError(f"standard output has nothing of {length} bytes at {offset}")

    def vouch_by(self, version: Version) -> None:
        """Note that the content is to become ``version``."""
        self._origin = version.origin

    def doubtful(self) -> list[tuple[int, int, str]]:
        """Return offset, length and digest of each piece that was passed on from another version."""
        return [
            (offset, length, digest)
            for offset, (length, digest, origin) in self._passed.items()
            if origin != self._origin
        ]

    def forget(self, offset: int) -> None:
        """Raise Failure: the piece at ``offset`` was passed on, and cannot be taken back."""
        _length, _digest, (_etag, server) = self._passed[offset]
        if server == self._origin[1]:
            reason = f"the content has changed, and from byte {offset} on the one from before was passed on"
        else:
            reason = f"the servers have different contents, and from byte {offset} on one of them was passed on"
        raise Failure(Exit.INTEGRITY, Word.CHANGED, reason)

    def finish(self, known: Known) -> None:
        """Do nothing: every piece was passed on."""

    def digest(self) -> str:
        """Return the SHA-256, in hexadecimal digits, of everything that was passed on."""
        return self._hash.hexdigest()


@contextlib.contextmanager
def open_stream(path: bytes) -> Iterator[PassingOn]:
    """Open the FIFO or character device at ``path``, and yield a target that writes to it. Raises Failure.

    ``is_stream`` must be true of ``path``. Opening a FIFO waits until the FIFO has a reader.
    """
    with complaints(path):
        # Without O_CREAT and O_TRUNC: a file that has taken the place meanwhile is not harmed.
        fd = os.open(path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if not _takes_a_stream(os.fstat(fd).st_mode):
            raise local_failure(path, "was replaced while it was being opened")
        yield PassingOn(lambda piece: _write_stream(path, fd, piece))
    finally:
        os.close(fd)


def _write_stream(path: bytes, fd: int, piece: memoryview) -> None:
    with complaints(path):
        try:
            write_all(fd, piece)
        except BrokenPipeError as error:
            raise local_failure(path, "its reader has gone") from error


def is_stream(path: bytes) -> bool:
    """Return whether ``path`` leads to a FIFO or a character device. These are written to, not replaced."""
    try:
        return _takes_a_stream(os.stat(path).st_mode)
    except OSError:
        return False


def _takes_a_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def check_output() -> None:
    """Raise OSError if standard output was closed before the program started: descriptor 1 may be any file by now."""
    if sys.stdout is None:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


@contextlib.contextmanager
def output_complaints() -> Iterator[None]:
    """Turn an OSError about standard output into a Failure, except BrokenPipeError, which ends the run silently."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"standard output: {error.strerror or error}") from error


def write_output(data: memoryview) -> None:
    """Write ``data`` to standard output. Raises Failure, and BrokenPipeError if the reader has gone."""
    with output_complaints():
        check_output()
        write_all(sys.stdout.fileno(), data)


def write_all(fd: int, data: memoryview) -> None:
    """Write ``data`` to ``fd``, in as many system calls as it takes. Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]
