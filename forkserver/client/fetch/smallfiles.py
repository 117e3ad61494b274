"""Verify and write the small files of a tree, whose whole content is in memory. Runs in the client."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.events import Fetched
from forkserver.client.local.smallfile import put
from forkserver.client.local.target import check_name, check_place
from forkserver.client.outcome import Failure, Receipt
from forkserver.client.remote.answers import DIGEST, check_digest
from forkserver.protocol.messages import digest_field

if TYPE_CHECKING:
    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.treestate import TreeState
    from forkserver.client.local.place import Place
    from forkserver.client.remote.listing import Enclosed


class SmallFiles:
    """Verifies small files, and writes them beneath ``place``. Only one thread may use it, as ``place``."""

    def __init__(self, state: TreeState, place: Place) -> None:
        self._state = state
        self._place = place

    def put(self, item: Item, enclosed: Enclosed, started: float) -> Receipt:
        """Write the content that came for ``item``. The time of the receipt counts from ``started``. Raises Failure."""
        content, digest, known, served = enclosed
        found = digest_field(DIGEST, sha256(content).hexdigest())
        check_digest(found, digest, served)
        check_name(item.path)
        directory_fd = self.directory(item)
        if item.directory not in self._state.made:
            check_place(directory_fd, item.path)
        put(directory_fd, item.path, content, known, self._state.durable)
        size = len(content)
        return Receipt((served,), size, size, found, time.monotonic() - started)

    def put_enclosed(self, item: Item, enclosed: Enclosed) -> None:
        """Write a file that came with the listing. Raises Failure where no other file can be written, either."""
        try:
            receipt = self.put(item, enclosed, time.monotonic())
        except Failure as failure:
            self._state.fail(item, failure)
        else:
            self._state.emit(Fetched(item.name, item.path, receipt))

    def directory(self, item: Item) -> int:
        """Return a descriptor of the directory of ``item``. Make the directory if it is missing. Raises Failure."""
        try:
            return self._place.directory(item.directory)
        except OSError as error:
            raise self._place.failure(item.path, error) from error
