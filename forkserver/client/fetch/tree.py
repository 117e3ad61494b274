"""Fetch a tree: list what there is, fetch what is not here, many requests on the way at a time. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, TypeAlias

from forkserver.client.fetch.seen import Seen
from forkserver.client.fetch.selection import Item
from forkserver.client.fetch.smallfiles import SmallFiles
from forkserver.client.fetch.worker import Worker
from forkserver.client.local.names import Names, folds_case
from forkserver.client.local.place import NOT_WRITABLE, Place
from forkserver.client.local.spool import Spool
from forkserver.client.local.target import Durable, local_failure, reason_of
from forkserver.client.outcome import Exit, Failure, Reach
from forkserver.client.remote.metadata import Metadata
from forkserver.client.remote.session import WINDOW
from forkserver.protocol.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.fetch.job import Wishes
    from forkserver.client.fetch.sweep import Sweep
    from forkserver.client.fetch.watcher import Watcher
    from forkserver.client.remote.session import Session

_Directory: TypeAlias = tuple[bytes, int, bytes]
"""A path, its time in nanoseconds since 1970, and its name on the server."""

_PATIENCE_S = 1.0
_MOST_FOUND = 100_000


class Tree:
    """Fetches ``items`` into the directory ``root``. ``connect`` makes a session; ``connections`` are used at a time.

    ``durable`` and ``wishes`` are so for every file. ``names`` has the paths that are taken, where several items may
    have one; ``source`` is whose items these are. ``watcher`` is told what the workers do, by who has the ``lock``.
    """

    def __init__(  # noqa: PLR0913 - what may be said of a tree, each once
        self,
        root: bytes,
        connect: Callable[[], Session],
        watcher: Watcher,
        *,
        connections: int,
        durable: Durable,
        wishes: Wishes,
        names: Names | None,
        source: object,
    ) -> None:
        self._root = root
        self._names = names
        self._source = source
        self._connect = connect
        self._connections = connections
        self.durable = durable
        self.wishes = wishes
        self.lock = threading.Lock()
        self.watcher = watcher
        self.made: set[bytes] = set()
        """Directories that were not there before, or empty: what was in them is not looked for."""
        self.closed: dict[bytes, Failure] = {}
        """Directories that nothing can be written into, and why."""
        self._found: dict[bytes, bytes] = {}
        self._seen = Seen()
        self.sessions: list[Session] = []
        """Of all workers."""
        self._stop: BaseException | None = None

    def takes_contents(self, path: bytes) -> bool:
        """Whether what goes into the directory ``path`` may come with its listing: where nothing is there yet.

        Several connections are to share the work, which is not to be had with one listing.
        """
        if self._connections > 1:
            return False
        try:
            with Place(self._root) as place:
                new = not place.holds_something(path)
        except OSError as error:
            new = isinstance(error, FileNotFoundError)
        if new:
            self.made.add(path)
        return new

    def fetch(self, items: Iterator[Item | None], top: bytes, sweep: Sweep | None) -> None:
        """Do everything that can be done; what cannot is told to the watcher. None among ``items``: they come again.

        ``top`` is the directory that all of it goes to, relative to the root. ``sweep`` looks through directories that
        were there before. Raises Failure where no more can be done: no directory that can be written into, a full disk,
        a server that is gone; and, last, where ``items`` did.
        """
        self._check_root(top)
        with _items_spool() as files, Spool[_Directory](tuple, tuple) as directories:
            incomplete = self._spool(items, files, directories)
            waiting = iter(files)
            connections = min(self._connections, -(-len(files) // WINDOW))
            own = self._connect()
            self.sessions.append(own)
            others: list[_Other] = []
            try:
                for _ in range(connections - 1):
                    others.append(_Other(self, self._connect(), waiting))
                    others[-1].start()
                self.work(own, waiting)
            except BaseException as error:
                self.end(error)
                deadline = time.monotonic() + _PATIENCE_S
                for other in others:
                    other.join(max(deadline - time.monotonic(), 0))  # one that is just connecting cannot be woken
                raise
            finally:
                own.resume()  # it is the client's, for other names, too
            for other in others:
                other.finish()
            if self._stop is not None:
                raise self._stop
            self._finish(directories, None if incomplete else sweep, own)
            if incomplete is not None:
                raise incomplete

    def plan(self, items: Iterator[Item | None]) -> None:
        """Tell the watcher what ``fetch`` would do, and change nothing. Raises Failure as ``fetch``."""
        with _items_spool() as files:
            for item in self._unseen(items, files.clear):
                if item.data.kind != "dir":
                    files.add(item)
            with contextlib.ExitStack() as stack:
                try:
                    place = stack.enter_context(Place(self._root))
                except OSError:  # it would be made, or told
                    place = None
                if place is not None:
                    Worker(self, self._connect(), place, dry=True).run(self._items(iter(files)))
                else:
                    for item in files:
                        self.watcher.wanted(item)

    def _check_root(self, top: bytes) -> None:
        """Raise Failure where nothing can be written into the directory ``top``, and nothing is there already.

        What is there may be unchanged, or have directories in it that can be written into.
        """
        try:
            place = Place(self._root)
        except OSError as error:
            raise local_failure(self._root, reason_of(error)) from error
        with place:
            if folds_case(place.directory(b"")):
                self._names = self._names or Names()
                self._names.folds_case = True
            try:
                place.check_writable(top)
            except OSError as error:
                something = False
                with contextlib.suppress(OSError):
                    something = place.holds_something(top)
                if error.errno in NOT_WRITABLE and not something:
                    raise place.failure(top, error) from error

    def _unseen(self, items: Iterator[Item | None], take_back: Callable[[], None]) -> Iterator[Item]:
        """Those to be fetched. Where they come again, ``take_back`` is called, and what was dealt with is left out."""
        for item in items:
            if item is None:
                self._seen.begin_anew()
                take_back()
            elif not self._seen.before(item.name):
                if self._claims(item):
                    yield item
                else:
                    self._seen.add(item.name)

    def _claims(self, item: Item) -> bool:
        """Whether the item is to be fetched: no other has the same local name. If not, the watcher is told."""
        if item.failure is not None:
            self.watcher.failed(item.name, item.failure)
            return False
        if self._names is not None:
            owner = (self._source, item.name)
            if not self._names.claim(item.path, owner, is_directory=item.data.kind == "dir"):
                self.watcher.failed(item.name, local_failure(item.path, self._names.complaint))
                return False
        if item.link:
            if self._names is not None:
                self._names.leave_alone(item.path)
            self.watcher.skipped(item.name)
        return not item.link

    def _spool(
        self, items: Iterator[Item | None], files: Spool[Item], directories: Spool[_Directory]
    ) -> Failure | None:
        """Write down what is to be fetched, and make the directories. Gives why that is not all.

        What came with the listing is put into its place at once.
        """
        try:
            self._spool_all(items, files, directories)
        except Failure as failure:
            if failure.exit_status is Exit.LOCAL_DISK:
                raise  # what was written down cannot be read any more
            return failure
        return None

    def _spool_all(self, items: Iterator[Item | None], files: Spool[Item], directories: Spool[_Directory]) -> None:
        size = placed_size = 0

        def take_back() -> None:
            nonlocal size
            files.clear()
            directories.clear()
            size = 0

        with Place(self._root, self.made) as place:
            small_files = SmallFiles(self, place)
            for item in self._unseen(items, take_back):
                if item.enclosed is not None:
                    small_files.put_enclosed(item, item.enclosed)
                    self._seen.add(item.name)
                    placed_size += item.data.size or 0
                elif item.data.kind == "dir":
                    try:
                        place.directory(item.path)
                    except OSError as error:
                        self.failed(item, place.failure(item.path, error))
                        self._seen.add(item.name)
                    directories.add((item.path, item.data.mtime_ns, item.name))
                else:
                    files.add(item)
                    size += item.data.size or 0
        self.watcher.listed(placed_size + size)

    def work(self, session: Session, waiting: Iterator[Item]) -> None:
        """Fetch as long as there is anything. Raises Failure."""
        try:
            with Place(self._root, self.made) as place:
                Worker(self, session, place).run(self._items(waiting))
        finally:
            session.close()

    def _items(self, waiting: Iterator[Item]) -> Iterator[Item]:
        while self._stop is None:
            with self.lock:
                item = next(waiting, None)
            if item is None:
                return
            yield item

    def failed(self, item: Item, failure: Failure) -> None:
        """Tell the watcher that ``item`` failed. Raises ``failure`` where no other can be written, either.

        A directory that nothing can be written into is told once, and the items that belong there are left out.
        """
        if failure.reach is Reach.RUN:
            raise failure
        with self.lock:
            if failure.reach is Reach.FILE:
                self.watcher.failed(item.name, failure)
                return
            directory = item.path.rpartition(b"/")[0] if failure.directory is None else failure.directory
            self.watcher.left_out(item, directory, self.closed.setdefault(directory, failure))

    def found(self, directory: bytes, name: bytes) -> None:
        """Note that the local ``directory``, ``name`` on the server, was there before this run, or may have been."""
        if len(self._found) < _MOST_FOUND:
            self._found[directory] = name

    def end(self, error: BaseException) -> None:
        """Have all workers end."""
        with self.lock:
            self._stop = self._stop or error
            sessions = list(self.sessions)
        for session in sessions:
            session.interrupt()

    def _finish(self, directories: Spool[_Directory], sweep: Sweep | None, session: Session) -> None:
        """Sweep the directories, then set their times: whatever is made or removed in a directory changes its time."""
        with Place(self._root) as place:
            for path, mtime_ns, name in directories:
                if sweep is not None and path not in self.made:
                    sweep.look_through(place, path, name, session)
                with contextlib.suppress(OSError, OverflowError):  # told when it could not be made
                    os.utime(place.directory(path, create=False), ns=(mtime_ns, mtime_ns))
            if sweep is not None:
                for path, name in self._found.items():
                    sweep.look_through(place, path, name, session)
                sweep.look_through(place, b"", None, session)

    @property
    def stopped(self) -> bool:
        """Whether the workers are to end."""
        return self._stop is not None


class _Other:
    """A further connection, and a thread of its own. Until its server has answered it takes no work upon itself."""

    def __init__(self, tree: Tree, session: Session, waiting: Iterator[Item]) -> None:
        self._tree = tree
        self._session = session
        self._waiting = waiting
        self._answered = False
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Fetch, in the thread."""
        with self._tree.lock:
            self._tree.sessions.append(self._session)
        self._thread.start()

    def join(self, patience_s: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join(patience_s)

    def finish(self) -> None:
        """There is no work left but what was taken: wait for that."""
        if self._answered:
            self._thread.join()
        else:
            self._session.interrupt()

    def _run(self) -> None:
        try:
            self._session.ask(Request("PING"))
            self._answered = True
            self._tree.work(self._session, self._waiting)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this one raises it
            # The others can do without a connection that never was.
            if self._answered or not isinstance(error, Failure):
                self._tree.end(error)
        finally:
            self._session.close()


def _items_spool() -> Spool[Item]:
    return Spool(
        lambda item: (item.name, item.path, tuple(item.data)),
        lambda packed: Item(packed[0], packed[1], Metadata(*packed[2])),
    )
