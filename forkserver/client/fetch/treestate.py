"""State that the workers of one tree share. Runs in the client."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.events import Failed, LeftOut
from forkserver.client.fetch.job import NO_WISHES, Wishes
from forkserver.client.local.place import Place
from forkserver.client.local.target import Durable
from forkserver.client.outcome import Reach

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.events import Event, OnEvent
    from forkserver.client.fetch.selection import Item
    from forkserver.client.local.names import Names
    from forkserver.client.outcome import Failure
    from forkserver.client.remote.session import Session

_MOST_FOUND = 100_000


class TreeOptions(NamedTuple):
    """How to fetch a tree.

    ``durable`` and ``wishes`` hold for every file. ``dry``: tell what would be done, and change nothing. ``delete``:
    delete local files and directories that the server does not have. ``names`` has the local paths that this run has
    taken. ``swept`` has the directories that this run has swept.
    """

    durable: Durable = Durable.NONE
    wishes: Wishes = NO_WISHES
    dry: bool = False
    delete: bool = False
    names: Names | None = None
    swept: set[bytes] | None = None


class TreeState:
    """The state of a fetch into the directory ``root``. Any thread may call the methods.

    ``on_event`` is called by one thread at a time.
    """

    def __init__(self, root: bytes, on_event: OnEvent, options: TreeOptions) -> None:
        self.root = root
        self.durable = options.durable
        self.wishes = options.wishes
        self.dry = options.dry
        self.made: set[bytes] = set()
        """Directories that did not exist before, or were empty: they need no search for older files."""
        self.closed: dict[bytes, Failure] = {}
        """Directories that nothing can be written into, and why."""
        self.found: dict[bytes, bytes] = {}
        """Local directories that may have existed before, and their names on the server."""
        self.has_failed = False
        """Whether an event told of a failure."""
        self.stopped_by: BaseException | None = None
        """Why all workers are to end."""
        self._on_event = on_event
        self._lock = threading.Lock()
        self._sessions: list[Session] = []

    def emit(self, event: Event) -> None:
        """Pass ``event`` on."""
        with self._lock:
            self._on_event(event)

    def fail(self, item: Item, failure: Failure) -> None:
        """Tell that ``item`` failed. Raise ``failure`` if no other file can be written, either.

        If nothing can be written into a directory, tell the directory once, and leave out the files that belong there.
        """
        if failure.reach is Reach.RUN:
            raise failure
        with self._lock:
            self.has_failed = True
            if failure.reach is Reach.FILE:
                self._on_event(Failed(item.name, failure))
                return
            directory = item.directory if failure.directory is None else failure.directory
            if directory not in self.closed:
                self.closed[directory] = failure
                self._on_event(Failed(_remote_name(item, directory), failure, directory))
            if item.data.kind != "dir":
                self._on_event(LeftOut(item.name, self.closed[directory], directory))

    def fail_name(self, name: bytes, failure: Failure) -> None:
        """Tell that the file or directory ``name`` failed."""
        self.has_failed = True
        self.emit(Failed(name, failure))

    def note_found(self, item: Item) -> None:
        """Note that the local directory of ``item`` may have existed before this run."""
        if len(self.found) < _MOST_FOUND:
            self.found[item.directory] = item.name.rpartition(b"/")[0]

    def is_new(self, path: bytes) -> bool:
        """Return whether the directory ``path`` is missing or empty, and note it as made if so."""
        try:
            with Place(self.root) as place:
                new = not place.holds_something(path)
        except OSError as error:
            new = isinstance(error, FileNotFoundError)
        if new:
            self.made.add(path)
        return new

    def take(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield items that no other worker takes, until all workers are to end."""
        while self.stopped_by is None:
            with self._lock:
                item = next(items, None)
            if item is None:
                return
            yield item

    def add(self, session: Session) -> None:
        """Have ``stop`` interrupt ``session``."""
        with self._lock:
            self._sessions.append(session)

    def stop(self, error: BaseException) -> None:
        """Have all workers end because of ``error``."""
        with self._lock:
            self.stopped_by = self.stopped_by or error
            sessions = list(self._sessions)
        for session in sessions:
            session.interrupt()


def _remote_name(item: Item, directory: bytes) -> bytes:
    """Return the name on the server of the local ``directory``, in which ``item`` is."""
    below = item.path[len(directory) :].strip(b"/")
    components = item.name.split(b"/")
    return b"/".join(components[: len(components) - below.count(b"/") - bool(below)]) or b"/"
