"""One connection's part of a tree: what is not here is asked for, many files at a time. Runs at the user's."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from typing import TYPE_CHECKING

from forkserver.client.fetch.download import Receipt, fetch_file
from forkserver.client.fetch.smallfiles import SmallFiles
from forkserver.client.local import validator
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.local.place import Place
from forkserver.client.local.target import LocalFile
from forkserver.client.outcome import Exit, Failure, Reach
from forkserver.client.remote.answers import DIGEST, answered_by, check_promise, may_pass, receive, understand
from forkserver.client.remote.connection import WINDOW
from forkserver.protocol.messages import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.tree import Tree
    from forkserver.client.remote.connection import Session
    from forkserver.protocol.messages import Reply, Trailer


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


class Worker:
    """One connection's part of a tree."""

    def __init__(self, tree: Tree, session: Session, place: Place) -> None:
        self._tree = tree
        self._session = session
        self._place = place
        self._small_files = SmallFiles(tree, place)
        self._requested: deque[Item] = deque()
        self._found: bytes | None = None
        self._writable: bytes | None = None
        """The directory that was found writable last."""

    def run(self, items: Iterator[Item]) -> None:
        """Fetch every item. Raises Failure where nothing more can be fetched."""
        for item in items:
            if self._is_here(item) or not self._has_place(item):
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
        directory = item.path.rpartition(b"/")[0]
        if directory in self._tree.made:
            return False
        if directory != self._found:
            self._found = directory
            self._tree.found(directory, item.name.rpartition(b"/")[0])
        receipt = find_unchanged(self._place, item, whole_digest=self._tree.whole_digest)
        if receipt is None:
            return False
        with self._tree.lock:
            self._tree.watcher.was_here(item, receipt.size)
            self._tree.watcher.fetched(item, receipt)
        return True

    def _has_place(self, item: Item) -> bool:
        """Return whether the directory of ``item`` can be written into. If not, nothing is asked for; it is told."""
        directory = item.path.rpartition(b"/")[0]
        failure = self._tree.closed.get(directory)
        if failure is None:
            if directory == self._writable or directory in self._tree.made:
                return True
            try:
                self._place.check_writable(directory)
            except OSError as error:
                failure = self._place.failure(item.path, error)
            else:
                self._writable = directory
                return True
        self._tree.failed(item, failure)
        return False

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
            if not self._is_due(item):
                self._request(item)  # behind the others
            self._session.wait(failure, "lost the connection")
        elif failure.exit_status is Exit.UNREACHABLE or self._is_due(item):
            # Where not even a reply came, none will: the server breaks the protocol, or stays busy.
            raise failure
        else:
            self._tree.failed(item, failure)
            if failure.reach is Reach.DIRECTORY:
                self._withdraw()

    def _withdraw(self) -> None:
        """Forget the requests for files of directories that nothing can be written into. Send the others again."""
        requested = list(self._requested)
        self._requested.clear()
        self._session.abandon()
        for item in requested:
            if self._has_place(item):
                self._request(item)

    def _is_due(self, item: Item) -> bool:
        return bool(self._requested) and self._requested[0] is item

    def _take_whole(self, item: Item, reply: Reply, content: memoryview, trailer: Trailer, started: float) -> Receipt:
        """As ``_take``, of a small file that is here already, as most are."""
        known = understand(self._session, reply)
        served = check_promise(self._session, reply, known.version.etag, 0, known.version.size)
        return self._small_files.put(item, content, known, trailer.fields.get("digest", ""), served, started)

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
        before: int | None = None

        def progress(here: int, _size: int) -> None:
            nonlocal before
            with self._tree.lock:
                if before is None:
                    self._tree.watcher.was_here(item, here)
                else:
                    self._tree.watcher.came(item, here - before)
            before = here

        try:
            with self._target(item) as target:
                receipt = fetch_file(self._session, item.name, target, progress, whole_digest=self._tree.whole_digest)
        except Failure as failure:
            if failure.exit_status is Exit.UNREACHABLE:
                raise
            self._tree.failed(item, failure)
        else:
            with self._tree.lock:
                self._tree.watcher.fetched(item, receipt)

    def _came(self, item: Item, size_bytes: int) -> None:
        with self._tree.lock:
            self._tree.watcher.came(item, size_bytes)

    def _target(self, item: Item) -> LocalFile:
        return LocalFile(self._small_files.directory(item)[1], item.path, durable=self._tree.durable)
