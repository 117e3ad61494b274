"""What a run has fetched, as a list that sha256sum(1) can check. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from forkserver.client.local import checksums, leftovers, partial
from forkserver.client.local.output import check_output, output_complaints, write_all
from forkserver.client.local.target import (
    NEW,
    Durable,
    check_place,
    complaints,
    directory_of,
    local_failure,
    sync_content,
    sync_name,
)
from forkserver.client.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.outcome import Receipt

    Note = Callable[[bytes, Receipt], None]
    """Adds a file: its path relative to the directory that files are put in; its digest must be known."""


@contextlib.contextmanager
def manifest(path: bytes, directory: bytes, durable: Durable) -> Iterator[Note]:
    """A list at ``path``, ``-`` for standard output, of files in ``directory``. Gives what adds one.

    The list appears when it is complete: on leaving, and not at all where an exception ends the run. On standard output
    every line appears at once. Raises Failure: on entering, where a list cannot be; on leaving, where it could not be
    written; on standard output, from what adds a file.
    """
    if path == b"-":
        yield _print
        return
    with directory_of(path) as directory_fd:
        check_place(directory_fd, path)
        with contextlib.suppress(OSError):  # a directory that cannot be read may still take a list
            leftovers.sweep(directory_fd)
        growing = _Growing(directory_fd, path, directory)
        try:
            yield growing.note
            growing.complete(durable)
        finally:
            growing.close()


class _Growing:
    """A list that has not yet its name."""

    def __init__(self, directory_fd: int, path: bytes, directory: bytes) -> None:
        self._directory_fd = directory_fd
        self._path = path
        self._directory = directory
        self._failure: Failure | None = None
        self._fd = -1
        with complaints(path):
            while self._fd < 0:
                self._temporary = partial.temporary_name()
                self._fd = os.open(self._temporary, NEW, 0o666, dir_fd=directory_fd)
                if not partial.hold(self._fd):
                    os.close(self._fd)
                    self._fd = -1

    def note(self, name: bytes, receipt: Receipt) -> None:
        """Add a file. What is wrong with the list is no failure of this file: ``complete`` tells it."""
        if self._is_place_of(name):
            self._failure = local_failure(
                self._path, "is a file that was fetched, not replaced by the list; give --manifest another name"
            )
        if self._failure is None:
            try:
                with complaints(self._path):
                    write_all(self._fd, memoryview(_line(name, receipt)))
            except Failure as failure:
                self._failure = failure

    def complete(self, durable: Durable) -> None:
        """Let it take its name. Raises Failure."""
        if self._failure is not None:
            raise self._failure
        with complaints(self._path):
            sync_content(self._fd, durable)
            name = os.path.basename(self._path)
            os.rename(self._temporary, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            sync_name(self._directory_fd, durable)

    def close(self) -> None:
        """Leave nothing but the complete list."""
        os.close(self._fd)
        with contextlib.suppress(OSError):  # not there any more, or what is wrong is told already
            os.unlink(self._temporary, dir_fd=self._directory_fd)

    def _is_place_of(self, name: bytes) -> bool:
        directory, base = os.path.split(os.path.join(self._directory, name))
        return base == os.path.basename(self._path) and os.path.samestat(
            os.stat(directory or b"."), os.fstat(self._directory_fd)
        )


def _print(name: bytes, receipt: Receipt) -> None:
    with output_complaints():
        check_output()
        write_all(sys.stdout.fileno(), memoryview(_line(name, receipt)))


def _line(name: bytes, receipt: Receipt) -> bytes:
    if receipt.digest is None:
        raise AssertionError("a manifest wants the digest of the whole")
    # A lone dash is standard input to sha256sum.
    return checksums.encode(receipt.digest.removeprefix("sha256:"), b"./-" if name == b"-" else name)
