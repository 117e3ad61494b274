"""Find the local copy of a file before the file is fetched as part of a tree. Runs in the client."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from forkserver.client.local.attributes import etag_of
from forkserver.client.local.complete import complete_file
from forkserver.client.local.target import LocalFile
from forkserver.client.outcome import Failure, Receipt
from forkserver.client.remote.answers import DIGEST
from forkserver.protocol.messages import digest_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.fetch.selection import Item
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.local.place import Place


def find_unchanged(place: Place, item: Item, *, whole_digest: bool) -> Receipt | None:
    """Return a receipt if the file is here, whole, and of the version of ``item``; else None.

    The version is known by the validator that was noted with the file, or else by size and time.
    """
    directory, _, name = item.path.rpartition(b"/")
    try:
        directory_fd = place.directory(directory, create=False)
        found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (item.data.size, item.data.mtime_ns):
        return None
    if etag_of(directory_fd, name) not in (None, item.data.etag):
        return None
    digest = None
    if whole_digest:
        try:
            digits = LocalFile(directory_fd, item.path).digest()
        except Failure:
            return None
        digest = digest_field(DIGEST, digits) if digits else None
    return Receipt((), found.st_size, 0, digest, 0.0, unchanged=True)


def has_right_size(place: Place, item: Item) -> bool:
    """Return whether a file as long as ``item`` is here. A file of another size needs no comparison."""
    directory, _, name = item.path.rpartition(b"/")
    try:
        found = os.stat(name, dir_fd=place.directory(directory, create=False), follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == item.data.size


@contextlib.contextmanager
def local_copy(place: Place, item: Item) -> Iterator[CompleteFile | None]:
    """Open the complete file at the path of ``item``. Yields None if there is none."""
    directory, _, name = item.path.rpartition(b"/")
    directory_fd = -1
    with contextlib.suppress(OSError):
        directory_fd = place.directory(directory, create=False)
    if directory_fd < 0:
        yield None
        return
    with complete_file(directory_fd, name) as file:
        yield file
