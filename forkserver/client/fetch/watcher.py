"""Who is told what becomes of a tree. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkserver.client.events import Failed, Fetched, Skipped, Summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.events import Event
    from forkserver.client.fetch.selection import Item
    from forkserver.client.outcome import Failure, Receipt


class Watcher:
    """Is told what becomes of every item, by any thread; this one does not care."""

    def listed(self, size: int) -> None:
        """Files with so many bytes in all are wanted."""

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """A file is here, or was and is unchanged."""

    def failed(self, name: bytes, failure: Failure) -> None:
        """A name could not be fetched, or not be listed."""

    def left_out(self, item: Item, directory: bytes, failure: Failure) -> None:
        """An item is not fetched, because nothing can be written into the local ``directory``: ``failure`` says why."""

    def swept(self, files: int) -> None:
        """So many temporary files of killed runs were removed."""

    def useless(self, path: bytes, source: bytes, size: int) -> None:
        """The part ``path``, of so many bytes, is of the file ``source``, which the server does not have any more."""

    def skipped(self, name: bytes) -> None:
        """A directory behind a symbolic link is not descended into."""

    def wanted(self, item: Item) -> None:
        """A file would be fetched, were it not for a dry run."""

    def deleted(self, path: bytes) -> None:
        """Something that the server does not have was deleted, or would be."""

    def came(self, item: Item, size: int) -> None:
        """So many bytes more have come of a file."""

    def was_here(self, item: Item, size: int) -> None:
        """So many bytes of a file were here before this run."""


class Closed:
    """A local directory ``path`` that nothing can be written into: ``name`` is that of the server, or of its parent.

    ``files`` counts those that were left out.
    """

    def __init__(self, name: bytes, path: bytes, failure: Failure) -> None:
        self.name = name
        self.path = path
        self.failure = failure
        self.files = 0


class Counter(Watcher):
    """Counts, and passes events on."""

    def __init__(self, on_event: Callable[[Event], None] | None = None) -> None:
        self._on_event = on_event
        self._files = self._unchanged = self._skipped = self._failed = 0
        self._size = self._received = 0
        self._closed: dict[bytes, Closed] = {}

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """Count it."""
        self._files += 1
        self._unchanged += receipt.unchanged
        self._size += receipt.size
        self._received += receipt.received
        if self._on_event is not None:
            self._on_event(Fetched(item.name, item.path, receipt))

    def failed(self, name: bytes, failure: Failure) -> None:
        """Count it."""
        self._failed += 1
        self._tell(Failed(name, failure))

    def left_out(self, item: Item, directory: bytes, failure: Failure) -> None:
        """Count it. The directory is told when its first item is left out."""
        closed = self._closed.get(directory)
        if closed is None:
            closed = self._closed[directory] = Closed(_remote_name(item, directory), directory, failure)
            self._failed += 1
            self._tell(Failed(closed.name, failure))
            self.closed(closed)
        closed.files += item.data.kind != "dir"

    def closed(self, directory: Closed) -> None:
        """Nothing can be written into a local directory."""

    def skipped(self, name: bytes) -> None:
        """Count it."""
        self._skipped += 1
        self._tell(Skipped(name))

    @property
    def summary(self) -> Summary:
        """Of what was told until now."""
        return Summary(self._files, self._unchanged, self._failed, self._size, self._received)

    def _tell(self, event: Event) -> None:
        if self._on_event is not None:
            self._on_event(event)


def _remote_name(item: Item, directory: bytes) -> bytes:
    """Return the name on the server of the local ``directory``, in which ``item`` is."""
    below = item.path[len(directory) :].strip(b"/")
    components = item.name.split(b"/")
    return b"/".join(components[: len(components) - below.count(b"/") - bool(below)]) or b"/"
