"""Files of a tree that are here in one piece before they are written. Runs at the user's."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.local.smallfile import put
from forkserver.client.local.target import check_name, check_place
from forkserver.client.outcome import Failure, Receipt
from forkserver.client.remote.answers import DIGEST, check_digest

if TYPE_CHECKING:
    from forkserver.client.content import Known
    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.tree import Tree
    from forkserver.client.local.place import Place
    from forkserver.client.outcome import Served
    from forkserver.client.remote.listing import Enclosed


class SmallFiles:
    """Verifies them, and puts them where they belong in the tree. One thread's, as its ``place``."""

    def __init__(self, tree: Tree, place: Place) -> None:
        self._tree = tree
        self._place = place

    def put(  # noqa: PLR0913, PLR0917 - what an answer is made of, each once
        self, item: Item, content: memoryview, known: Known, digest: str, served: Served, started: float
    ) -> Receipt:
        """``digest`` is what ``served`` says it is; the receipt's time counts from ``started``. Raises Failure."""
        found = f"{DIGEST}:{sha256(content).hexdigest()}"
        check_digest(found, digest, served)
        check_name(item.path)
        directory, directory_fd = self.directory(item)
        if directory not in self._tree.made:
            check_place(directory_fd, item.path)
        put(directory_fd, item.path, content, known, self._tree.durable)
        size = len(content)
        return Receipt((served,), size, size, found, time.monotonic() - started)

    def put_enclosed(self, item: Item, enclosed: Enclosed) -> None:
        """Put a file that came with the listing; the watcher is told. Raises Failure where no other can be written."""
        content, digest, known, served = enclosed
        try:
            receipt = self.put(item, content, known, digest, served, time.monotonic())
        except Failure as failure:
            self._tree.failed(item, failure)
        else:
            self._tree.watcher.came(item, receipt.size)
            self._tree.watcher.fetched(item, receipt)

    def directory(self, item: Item) -> tuple[bytes, int]:
        """The path of its directory, and a descriptor; made where it is missing. Raises Failure."""
        directory = item.path.rpartition(b"/")[0]
        try:
            return directory, self._place.directory(directory)
        except OSError as error:
            raise self._place.failure(item.path, error) from error
