"""Write a list of the files that a run has fetched, for sha256sum(1) to check. Runs in the client."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from forkserver.client.events import Fetched
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
    from collections.abc import Iterator

    from forkserver.client.events import Event, OnEvent


@contextlib.contextmanager
def manifest(path: bytes, directory: bytes, durable: Durable) -> Iterator[OnEvent]:
    """Write a list of files in ``directory`` to ``path``, or to standard output if that is ``-``.

    Yield a consumer of events: it adds every file that is fetched, whose digest must be known. The list appears when it
    is complete, on leaving, and not at all if an exception ends the run. On standard output each line appears at once.

    Raises Failure: on entering, if there can be no list at ``path``; on leaving, if the list could not be written; on
    standard output, from the consumer.
    """
    if path == b"-":
        yield _print
        return
    with directory_of(path) as directory_fd:
        check_place(directory_fd, path)
        with contextlib.suppress(OSError):  # a directory that cannot be read may still be written into
            leftovers.sweep(directory_fd)
        growing = _GrowingList(directory_fd, path, directory)
        try:
            yield growing
            growing.complete(durable)
        finally:
            growing.close()


class _GrowingList:
    """A list in a temporary file in the directory of ``path``. The list gets its name when it is complete."""

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

    def __call__(self, event: Event) -> None:
        """Add a file that was fetched. A failure of the list is no failure of the file, so ``complete`` raises it."""
        if not isinstance(event, Fetched):
            return
        if self._is_place_of(event.path):
            self._failure = local_failure(
                self._path, "is a file that was fetched, not replaced by the list; give --manifest another name"
            )
        if self._failure is None:
            try:
                with complaints(self._path):
                    write_all(self._fd, memoryview(_line(event)))
            except Failure as failure:
                self._failure = failure

    def complete(self, durable: Durable) -> None:
        """Give the list its name. Raises Failure."""
        if self._failure is not None:
            raise self._failure
        with complaints(self._path):
            sync_content(self._fd, durable)
            name = os.path.basename(self._path)
            os.rename(self._temporary, name, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)
            sync_name(self._directory_fd, durable)

    def close(self) -> None:
        """Remove the list unless it is complete."""
        os.close(self._fd)
        with contextlib.suppress(OSError):  # the list has its name, or a failure was raised already
            os.unlink(self._temporary, dir_fd=self._directory_fd)

    def _is_place_of(self, name: bytes) -> bool:
        directory, base = os.path.split(os.path.join(self._directory, name))
        return base == os.path.basename(self._path) and os.path.samestat(
            os.stat(directory or b"."), os.fstat(self._directory_fd)
        )


def _print(event: Event) -> None:
    if isinstance(event, Fetched):
        with output_complaints():
            check_output()
            write_all(sys.stdout.fileno(), memoryview(_line(event)))


def _line(event: Fetched) -> bytes:
    if event.receipt.digest is None:
        raise AssertionError("a manifest needs the digest of the whole")
    # sha256sum takes a lone dash for standard input.
    return checksums.encode(event.receipt.digest.removeprefix("sha256:"), b"./-" if event.path == b"-" else event.path)
