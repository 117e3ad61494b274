"""Fetch a tree: list what there is, fetch what is not here, many requests on the way at a time. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, TypeAlias

from forkserver.client.fetch.download import Receipt, fetch_file
from forkserver.client.fetch.selection import Item
from forkserver.client.local import validator
from forkserver.client.local.names import Names, folds_case
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.local.place import Place
from forkserver.client.local.smallfile import put
from forkserver.client.local.spool import Spool
from forkserver.client.local.target import Durable, LocalFile, check_place, local_failure, reason_of
from forkserver.client.outcome import Exit, Failure
from forkserver.client.remote.answers import DIGEST, answered_by, check_promise, may_pass, receive, understand, verify
from forkserver.client.remote.connection import WINDOW
from forkserver.client.remote.metadata import Metadata
from forkserver.protocol.messages import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.fetch.watcher import Watcher
    from forkserver.client.remote.connection import Session
    from forkserver.protocol.messages import Reply, Trailer

_Directory: TypeAlias = tuple[bytes, int]
"""A path, and its time or a descriptor of it."""

_PATIENCE_S = 1.0


class Tree:
    """Fetches ``items`` into the directory ``root``. ``connect`` makes a session; ``connections`` are used at a time.

    ``durable`` is so for every file; ``whole_digest``: the digest of each is found out in any case. ``names`` has the
    paths that are taken, where several items may have one; ``source`` is whose items these are. ``watcher``
    is told what the workers do, by who has the ``lock``.
    """

    def __init__(  # noqa: PLR0913 - what may be said of a tree, each once
        self,
        root: bytes,
        connect: Callable[[], Session],
        watcher: Watcher,
        *,
        connections: int,
        durable: Durable,
        whole_digest: bool,
        names: Names | None,
        source: object,
    ) -> None:
        self._root = root
        self._names = names
        self._source = source
        self._connect = connect
        self._connections = connections
        self.durable = durable
        self.whole_digest = whole_digest
        self.lock = threading.Lock()
        self.watcher = watcher
        self.made: set[bytes] = set()
        """Directories that were not there before: what was in them is not looked for."""
        self._sessions: list[Session] = []
        self._stop: BaseException | None = None

    def fetch(self, items: Iterator[Item]) -> None:
        """Do everything that can be done; what cannot is told to the watcher.

        Raises Failure where no more can be: no such directory, a full disk, a server that is gone; and, last, where
        ``items`` did.
        """
        self._check_root()
        with _items_spool() as files, Spool[_Directory](tuple, tuple) as directories:
            incomplete = self._spool(items, files, directories)
            waiting = iter(files)
            others = [
                threading.Thread(target=self._work_in_thread, args=(waiting,), daemon=True)
                for _ in range(min(self._connections, -(-len(files) // WINDOW)) - 1)
            ]
            for thread in others:
                thread.start()
            try:
                self._work(waiting)
            except BaseException as error:
                self._end(error)
                for thread in others:
                    thread.join(_PATIENCE_S)  # one that is just connecting cannot be woken
                raise
            for thread in others:
                thread.join()
            if self._stop is not None:
                raise self._stop
            self._set_times(directories)
            if incomplete is not None:
                raise incomplete

    def plan(self, items: Iterator[Item]) -> None:
        """Tell the watcher what ``fetch`` would do, and change nothing. Raises Failure where ``items`` do."""
        size = 0
        with _items_spool() as files:
            for item in items:
                if self._claims(item) and item.data.kind != "dir":
                    files.add(item)
                    size += item.data.size or 0
            self.watcher.listed(len(files), size)
            with contextlib.ExitStack() as stack:
                try:
                    place = stack.enter_context(Place(self._root))
                except OSError:  # it would be made, or told
                    place = None
                for item in self._items(iter(files)):
                    receipt = place and find_unchanged(place, item, whole_digest=False)
                    if receipt:
                        self.watcher.fetched(item, receipt)
                    else:
                        self.watcher.wanted(item)

    def _check_root(self) -> None:
        try:
            with Place(self._root) as place:
                if folds_case(place.directory(b"")):
                    self._names = self._names or Names()
                    self._names.folds_case = True
        except OSError as error:
            raise local_failure(self._root, reason_of(error)) from error

    def _claims(self, item: Item) -> bool:
        """Whether the item is to be fetched: no other has the same local name. If not, the watcher is told."""
        if self._names is not None:
            owner = (self._source, item.name)
            if not self._names.claim(item.path, owner, is_directory=item.data.kind == "dir"):
                self.watcher.failed(item.name, local_failure(item.path, self._names.complaint))
                return False
        if item.link:
            self.watcher.skipped(item.name)
        return not item.link

    def _spool(self, items: Iterator[Item], files: Spool[Item], directories: Spool[_Directory]) -> Failure | None:
        """Write down what is to be fetched, and make the directories. Gives why that is not all."""
        try:
            self._spool_all(items, files, directories)
        except Failure as failure:
            if failure.exit_status is Exit.LOCAL_DISK:
                raise  # what was written down cannot be read any more
            return failure
        return None

    def _spool_all(self, items: Iterator[Item], files: Spool[Item], directories: Spool[_Directory]) -> None:
        size = 0
        with Place(self._root, self.made) as place:
            for item in items:
                if not self._claims(item):
                    continue
                if item.data.kind == "dir":
                    try:
                        place.directory(item.path)
                    except OSError as error:
                        self.watcher.failed(item.name, local_failure(item.path, reason_of(error)))
                    directories.add((item.path, item.data.mtime_ns))
                else:
                    files.add(item)
                    size += item.data.size or 0
        self.watcher.listed(len(files), size)

    def _work_in_thread(self, waiting: Iterator[Item]) -> None:
        try:
            self._work(waiting)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this one raises it
            self._end(error)

    def _work(self, waiting: Iterator[Item]) -> None:
        session = self._connect()
        with self.lock:
            self._sessions.append(session)
        try:
            with Place(self._root, self.made) as place:
                _Worker(self, session, place).run(self._items(waiting))
        finally:
            session.close()

    def _items(self, waiting: Iterator[Item]) -> Iterator[Item]:
        while self._stop is None:
            with self.lock:
                item = next(waiting, None)
            if item is None:
                return
            yield item

    def _end(self, error: BaseException) -> None:
        """Have all workers end."""
        with self.lock:
            self._stop = self._stop or error
            sessions = list(self._sessions)
        for session in sessions:
            session.interrupt()

    def _set_times(self, directories: Spool[_Directory]) -> None:
        """Last: whatever is made in a directory changes its time."""
        with Place(self._root) as place:
            for path, mtime_ns in directories:
                with contextlib.suppress(OSError, OverflowError):  # told when it could not be made
                    os.utime(place.directory(path, create=False), ns=(mtime_ns, mtime_ns))

    @property
    def stopped(self) -> bool:
        """Whether the workers are to end."""
        return self._stop is not None


def _items_spool() -> Spool[Item]:
    return Spool(
        lambda item: (item.name, item.path, tuple(item.data)),
        lambda packed: Item(packed[0], packed[1], Metadata(*packed[2])),
    )


def find_unchanged(place: Place, item: Item, *, whole_digest: bool) -> Receipt | None:
    """Whether the file is here, whole, and this version: by the validator noted with it, else by size and time."""
    directory, _, name = item.path.rpartition(b"/")
    try:
        directory_fd = place.directory(directory, create=False)
        found = os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (item.data.size, item.data.mtime_ns):
        return None
    if validator.read(directory_fd, name) not in (None, item.data.etag):
        return None
    digest = None
    if whole_digest:
        try:
            digest = f"{DIGEST}:{LocalFile(directory_fd, item.path).digest()}"
        except Failure:
            return None
    return Receipt((), found.st_size, 0, digest, 0.0, unchanged=True)


class _Worker:
    """One connection's part of a tree."""

    def __init__(self, tree: Tree, session: Session, place: Place) -> None:
        self._tree = tree
        self._session = session
        self._place = place
        self._requested: deque[Item] = deque()

    def run(self, items: Iterator[Item]) -> None:
        """Fetch every item. Raises Failure where nothing more can be fetched."""
        for item in items:
            if self._is_here(item):
                continue
            if item.data.size is not None and item.data.size > PIECE_BYTES:
                self._answer(leave=0)
                self._fetch_alone(item)
            else:
                self._request(item)
            if len(self._requested) >= WINDOW:
                self._answer(leave=WINDOW // 2)
        self._answer(leave=0)

    def _is_here(self, item: Item) -> bool:
        if item.path.rpartition(b"/")[0] in self._tree.made:
            return False
        receipt = find_unchanged(self._place, item, whole_digest=self._tree.whole_digest)
        if receipt is None:
            return False
        with self._tree.lock:
            self._tree.watcher.came(item, receipt.size)
            self._tree.watcher.fetched(item, receipt)
        return True

    def _request(self, item: Item) -> None:
        self._session.request(Request("GET", item.name, length=PIECE_BYTES, digest=DIGEST))
        self._requested.append(item)

    def _answer(self, *, leave: int) -> None:
        """Take answers, until no more than ``leave`` are due."""
        while len(self._requested) > leave:
            item = self._requested[0]
            started = time.monotonic()
            try:
                whole = self._session.whole_answer()  # where this raises, it is still due
                reply = whole[0] if whole else self._session.reply()  # likewise
                self._requested.popleft()
                receipt = self._take_whole(item, *whole, started) if whole else self._take(item, reply, started)
            except Failure as failure:
                self._after(item, failure)
            else:
                self._session.renew()
                with self._tree.lock:
                    if whole:
                        self._tree.watcher.came(item, receipt.size)
                    self._tree.watcher.fetched(item, receipt)

    def _after(self, item: Item, failure: Failure) -> None:
        """What becomes of an item that failed, and of those behind it."""
        if self._tree.stopped:
            raise failure
        if may_pass(self._session, failure):
            if not (self._requested and self._requested[0] is item):
                self._request(item)  # behind the others
            self._session.wait(failure, "lost the connection")
        elif failure.exit_status is Exit.UNREACHABLE or failure.disk_full:
            raise failure
        else:
            with self._tree.lock:
                self._tree.watcher.failed(item.name, failure)

    def _take_whole(self, item: Item, reply: Reply, content: memoryview, trailer: Trailer, started: float) -> Receipt:
        """As ``_take``, of a small file that is here already, as most are."""
        known = understand(self._session, reply)
        size = known.version.size
        served = check_promise(self._session, reply, known.version.etag, 0, size)
        digest = sha256(content).hexdigest()
        verify(digest, trailer, served)
        directory, directory_fd = self._directory(item)
        if directory not in self._tree.made:
            check_place(directory_fd, item.path)
        put(directory_fd, item.path, content, known, self._tree.durable)
        return Receipt((served,), size, size, f"{DIGEST}:{digest}", time.monotonic() - started)

    def _take(self, item: Item, reply: Reply, started: float) -> Receipt:
        known = understand(self._session, reply)
        size = known.version.size
        if size > PIECE_BYTES:
            served = answered_by(self._session)
            raise Failure(Exit.INTEGRITY, "changed", "the file has grown since it was listed; fetch it again", served)
        served = check_promise(self._session, reply, known.version.etag, 0, size)
        with self._target(item) as target:
            target.begin(known.version)
            digest = receive(self._session, target, 0, lambda size_bytes: self._came(item, size_bytes))
            target.verified(0, size, digest, known.version)
            target.finish(known)
        return Receipt((served,), size, size, f"{DIGEST}:{digest}", time.monotonic() - started)

    def _fetch_alone(self, item: Item) -> None:
        """A file of several pieces."""
        before = 0

        def progress(here: int, _size: int) -> None:
            nonlocal before
            self._came(item, here - before)
            before = here

        try:
            with self._target(item) as target:
                receipt = fetch_file(self._session, item.name, target, progress, whole_digest=self._tree.whole_digest)
        except Failure as failure:
            if failure.exit_status is Exit.UNREACHABLE or failure.disk_full:
                raise
            with self._tree.lock:
                self._tree.watcher.failed(item.name, failure)
        else:
            with self._tree.lock:
                self._tree.watcher.fetched(item, receipt)

    def _came(self, item: Item, size_bytes: int) -> None:
        with self._tree.lock:
            self._tree.watcher.came(item, size_bytes)

    def _target(self, item: Item) -> LocalFile:
        return LocalFile(self._directory(item)[1], item.path, durable=self._tree.durable)

    def _directory(self, item: Item) -> _Directory:
        directory = item.path.rpartition(b"/")[0]
        try:
            return directory, self._place.directory(directory)
        except OSError as error:
            raise local_failure(item.path, reason_of(error)) from error
