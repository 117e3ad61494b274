"""Outputs that are passed on and cannot be taken back: standard output, FIFOs, devices. Runs in the client."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from hashlib import sha256
from typing import TYPE_CHECKING, Self

from forkserver.client.content import Version
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.local.target import complaints, local_failure
from forkserver.client.outcome import Exit, Failure, Word

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.content import Known


class PassingOn:
    """Passes on what is verified, piece by piece; where that cannot go on, only the exit status tells it.

    The base of the outputs below, each with its own ``_put``.
    """

    discarded = False
    takes_any_order = False

    def __init__(self) -> None:
        self._piece = bytearray()
        self._hash = sha256()
        self._passed: dict[int, tuple[int, str, tuple[str, str]]] = {}
        self._origin = ("", "")
        self.here = 0

    def reject(self) -> None:
        """Do nothing: what was passed on cannot be taken back."""

    def location(self) -> None:
        """Return None: standard output has no name."""

    def left_over(self) -> bool:
        """Nothing can be."""
        return False

    def begin(self, version: Version) -> Iterable[tuple[int, int]]:
        """Everything is missing."""
        self._origin = version.origin
        starts = range(0, version.size, PIECE_BYTES) or [0]
        return ((start, min(PIECE_BYTES, version.size - start)) for start in starts)

    def write(self, offset: int, data: memoryview) -> None:
        """Keep ``data`` until the piece is verified. A piece that begins again replaces what came of it before."""
        if offset % PIECE_BYTES == 0:
            self._piece.clear()
        self._piece += data

    def verified(self, offset: int, length: int, digest: str, version: Version) -> None:
        """Pass the piece at ``offset`` on, unless it was passed on before."""
        self._passed[offset] = length, digest, version.origin
        if offset + length <= self.here:
            return
        self.here += length
        self._hash.update(self._piece)
        self._put(memoryview(self._piece))

    def _put(self, piece: memoryview) -> None:
        """Pass on a whole piece. Raises Failure."""
        raise NotImplementedError

    def begun(self) -> tuple[()]:
        """Nothing can be."""
        return ()

    def joined(self, offset: int, length: int) -> str:
        """Raise AssertionError: no piece has a beginning that was here before."""
        raise AssertionError(f"standard output has nothing of {length} bytes at {offset}")

    def vouch_by(self, version: Version) -> None:
        """Note ``version`` as the one that vouches for the pieces."""
        self._origin = version.origin

    def doubtful(self) -> list[tuple[int, int, str]]:
        """Those of another version."""
        return [
            (offset, length, digest)
            for offset, (length, digest, origin) in self._passed.items()
            if origin != self._origin
        ]

    def forget(self, offset: int) -> None:
        """It is out, and cannot be taken back. Raises Failure."""
        server = self._passed[offset][2][1]
        if server == self._origin[1]:
            reason = f"the content has changed, and from byte {offset} on the one from before was passed on"
        else:
            reason = f"the servers have different contents, and from byte {offset} on one of them was passed on"
        raise Failure(Exit.INTEGRITY, Word.CHANGED, reason)

    def finish(self, known: Known) -> None:
        """Nothing to finish."""

    def digest(self) -> str:
        """Of all that was passed on."""
        return self._hash.hexdigest()


class StandardOutput(PassingOn):
    """Standard output. A reader that has gone raises BrokenPipeError."""

    def _put(self, piece: memoryview) -> None:
        with output_complaints():
            check_output()
            write_all(sys.stdout.fileno(), piece)


class Stream(PassingOn):
    """A FIFO or a character device at ``path``, as ``is_stream`` finds it. A context manager.

    Entering opens it, and waits until a FIFO has a reader. Raises Failure.
    """

    def __init__(self, path: bytes) -> None:
        super().__init__()
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        with complaints(self._path):
            # Without O_CREAT and O_TRUNC: a file that has taken the place meanwhile is not harmed.
            self._fd = os.open(self._path, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC)
        if not _takes_a_stream(os.fstat(self._fd).st_mode):
            os.close(self._fd)
            raise local_failure(self._path, "was replaced while it was being opened")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def _put(self, piece: memoryview) -> None:
        try:
            with complaints(self._path):
                write_all(self._fd, piece)
        except Failure as failure:
            if isinstance(failure.__cause__, BrokenPipeError):
                raise local_failure(self._path, "its reader has gone") from failure.__cause__
            raise


def is_stream(path: bytes) -> bool:
    """Whether ``path`` leads to a FIFO or a character device: these are written to, and not replaced."""
    try:
        return _takes_a_stream(os.stat(path).st_mode)
    except OSError:
        return False


def _takes_a_stream(mode: int) -> bool:
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


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
        raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"standard output: {error.strerror or error}") from error


def write_all(fd: int, data: memoryview) -> None:
    """Write ``data`` to ``fd``, in as many system calls as it takes. Raises OSError."""
    while data:
        data = data[os.write(fd, data) :]
