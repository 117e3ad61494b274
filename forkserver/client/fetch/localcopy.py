"""Find the local copy of a file of a tree before the file is fetched. Runs in the client."""

from __future__ import annotations

import os
import stat
from contextlib import nullcontext
from typing import TYPE_CHECKING

from forkserver.client.local.attributes import etag_of
from forkserver.client.local.complete import complete_file
from forkserver.client.local.target import LocalFile
from forkserver.client.outcome import Failure, Receipt
from forkserver.client.remote.answers import DIGEST
from forkserver.protocol.messages import digest_field

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from forkserver.client.fetch.selection import Item
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.local.place import Place


def find_unchanged(place: Place, item: Item, *, whole_digest: bool) -> Receipt | None:
    """Return a receipt if the file is here, whole, and of the version of ``item``; else None.

    The version is known by the validator that was noted with the file, or else by size and time.
    """
    found = _find(place, item)
    if found is None or found.st_mtime_ns != item.data.mtime_ns:
        return None
    directory_fd = place.directory(item.directory, create=False)
    if etag_of(directory_fd, os.path.basename(item.path)) not in (None, item.data.etag):
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
    return _find(place, item) is not None


def local_copy(place: Place, item: Item) -> AbstractContextManager[CompleteFile | None]:
    """Open the complete file at the path of ``item``. The context manager gives None if there is no such file."""
    try:
        return complete_file(place.directory(item.directory, create=False), os.path.basename(item.path))
    except OSError:
        return nullcontext()


def _find(place: Place, item: Item) -> os.stat_result | None:
    """Return the status of the regular file at the path of ``item``, or None if no file of the item's size is there."""
    try:
        directory_fd = place.directory(item.directory, create=False)
        found = os.stat(os.path.basename(item.path), dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) and found.st_size == item.data.size else None
