"""One connection's part of a tree: what is not here is asked for, many files at a time. Runs at the user's.

What is unchanged is told by what was noted with a file, or by size and time. Where contents are to be compared, the
digest of every small file of the right size is asked for, and the file only where that is another.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.fetch.compare import Moved, compare
from forkserver.client.fetch.download import fetch_file
from forkserver.client.fetch.smallfiles import SmallFiles
from forkserver.client.local import validator
from forkserver.client.local.complete import complete_file
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.local.place import Place
from forkserver.client.local.target import LocalFile
from forkserver.client.outcome import Exit, Failure, Reach, Receipt
from forkserver.client.remote.answers import (
    DIGEST,
    Changed,
    answered_by,
    check_promise,
    digest_in,
    may_pass,
    receive,
    understand,
)
from forkserver.client.remote.session import WINDOW
from forkserver.protocol.messages import Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.tree import Tree
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session
    from forkserver.protocol.messages import Reply, Trailer

_MOST_TRIES = 3
"""Of a small file that changes whenever it is sent."""


class _Asked(NamedTuple):
    """A request on its way: for a file, or for its digest alone. ``tries`` counts those of the file before."""

    item: Item
    digest_only: bool = False
    tries: int = 0


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
    """One connection's part of a tree. ``dry``: the watcher is told what would be fetched, and nothing is."""

    def __init__(self, tree: Tree, session: Session, place: Place, *, dry: bool = False) -> None:
        self._dry = dry
        self._gives_digests = True
        """Until the server has refused to: then it is an older one."""
        self._tree = tree
        self._session = session
        self._place = place
        self._small_files = SmallFiles(tree, place)
        self._requested: deque[_Asked] = deque()
        self._found: bytes | None = None
        self._writable: bytes | None = None
        """The directory that was found writable last."""

    def run(self, items: Iterator[Item]) -> None:
        """Fetch every item. Raises Failure where nothing more can be fetched."""
        for item in items:
            if self._is_here(item):
                continue
            if item.data.size is not None and item.data.size > PIECE_BYTES:
                self._answer(leave=0)
                self._handle_alone(item)
            elif self._tree.wishes.by_content and self._gives_digests and self._has_right_size(item):
                self._request(_Asked(item, digest_only=True))
            else:
                self._want(item)
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
        if self._tree.wishes.by_content:
            return False
        receipt = find_unchanged(self._place, item, whole_digest=self._tree.wishes.whole_digest and not self._dry)
        if receipt is None:
            return False
        self._tell_unchanged(item, receipt)
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

    def _has_right_size(self, item: Item) -> bool:
        """Whether a file as long as ``item`` is here: all others need not be compared."""
        directory, _, name = item.path.rpartition(b"/")
        if directory in self._tree.made:
            return False
        try:
            found = os.stat(name, dir_fd=self._place.directory(directory, create=False), follow_symlinks=False)
        except OSError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == item.data.size

    def _want(self, item: Item) -> None:
        if self._dry:
            self._tree.watcher.wanted(item)
        elif self._has_place(item):
            self._request(_Asked(item))

    def _request(self, asked: _Asked) -> None:
        verb = "STAT" if asked.digest_only else "GET"
        self._session.request(Request(verb, asked.item.name, length=PIECE_BYTES, digest=DIGEST))
        self._requested.append(asked)

    def _answer(self, *, leave: int) -> None:
        """Take answers, until no more than ``leave`` are due."""
        while len(self._requested) > leave:
            asked = self._requested[0]
            item = asked.item
            started = time.monotonic()
            try:
                whole = self._session.whole_answer()  # where this raises, it is still due
                reply = whole[0] if whole else self._session.reply()  # likewise
                self._requested.popleft()
                if asked.digest_only:
                    self._compare(item, reply, started)
                    self._session.renew()
                    continue
                receipt = self._take_whole(item, *whole, started) if whole else self._take(item, reply, started)
            except Failure as failure:
                self._after(asked, failure)
            else:
                self._session.renew()
                with self._tree.lock:
                    if whole:
                        self._tree.watcher.came(item, receipt.size)
                    self._tree.watcher.fetched(item, receipt)

    def _compare(self, item: Item, reply: Reply, started: float) -> None:
        """Take the digest of a small file, and want the file where what is here has another. Raises Failure."""
        receipt = None
        if reply.status is Status.BAD_REQUEST:
            self._gives_digests = False
        elif reply.status is not Status.CHANGED:
            receipt = self._compared(item, reply, started)
        if receipt is None:
            self._want(item)
        else:
            self._tell_unchanged(item, receipt)

    def _compared(self, item: Item, reply: Reply, started: float) -> Receipt | None:
        known = understand(self._session, reply)
        size = known.version.size
        with self._complete_file(item) as file:
            if file is None or file.size != size or size > PIECE_BYTES:
                return None
            served = check_promise(self._session, reply, known.version.etag, 0, size)
            digest = sha256(file.read(0, size)).hexdigest()
            if digest != digest_in(reply, served) or not (self._dry or file.confirm(known)):
                return None
        return Receipt((served,), size, 0, f"{DIGEST}:{digest}", time.monotonic() - started, unchanged=True)

    @contextlib.contextmanager
    def _complete_file(self, item: Item) -> Iterator[CompleteFile | None]:
        directory, _, name = item.path.rpartition(b"/")
        try:
            directory_fd = self._place.directory(directory, create=False)
        except OSError:
            directory_fd = -1
        if directory_fd < 0:
            yield None
            return
        with complete_file(directory_fd, name) as file:
            yield file

    def _tell_unchanged(self, item: Item, receipt: Receipt) -> None:
        with self._tree.lock:
            self._tree.watcher.was_here(item, receipt.size)
            self._tree.watcher.fetched(item, receipt)

    def _after(self, asked: _Asked, failure: Failure) -> None:
        """What becomes of an item that failed, and of those behind it."""
        if self._tree.stopped:
            raise failure
        tries = asked.tries + 1
        if may_pass(self._session, failure):
            if not self._is_due(asked):
                self._request(asked)  # behind the others
            self._session.wait(failure, "lost the connection")
        elif isinstance(failure, Changed) and tries < _MOST_TRIES:
            self._request(asked._replace(tries=tries))
        elif failure.exit_status is Exit.UNREACHABLE or self._is_due(asked):
            # Where not even a reply came, none will: the server breaks the protocol, or stays busy.
            raise failure
        else:
            self._tree.failed(asked.item, failure)
            if failure.reach is Reach.DIRECTORY:
                self._withdraw()

    def _withdraw(self) -> None:
        """Forget the requests for files of directories that nothing can be written into. Send the others again."""
        requested = list(self._requested)
        self._requested.clear()
        self._session.abandon()
        for asked in requested:
            if asked.digest_only or self._has_place(asked.item):
                self._request(asked)

    def _is_due(self, asked: _Asked) -> bool:
        return bool(self._requested) and self._requested[0] is asked

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

    def _handle_alone(self, item: Item) -> None:
        if self._dry:
            self._plan_alone(item)
        # What is here may be right, and then needs no place.
        elif self._has_right_size(item) or self._has_place(item):
            self._fetch_alone(item)

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
                receipt = fetch_file(self._session, item.name, target, progress, wishes=self._tree.wishes)
        except Failure as failure:
            if failure.exit_status is Exit.UNREACHABLE:
                raise
            self._tree.failed(item, failure)
        else:
            with self._tree.lock:
                if receipt.unchanged:
                    self._tree.watcher.was_here(item, receipt.size)
                self._tree.watcher.fetched(item, receipt)

    def _plan_alone(self, item: Item) -> None:
        """Tell whether a file of several pieces would be fetched. Where its size is right, that takes a comparison."""
        self._session.renew()
        while True:
            try:
                is_here = self._has_right_size(item) and self._agrees(item)
            except Moved:
                self._session.abandon()
            except Failure as failure:
                self._session.abandon()
                if failure.exit_status is not Exit.UNREACHABLE:
                    self._tree.watcher.failed(item.name, failure)
                    return
                if not may_pass(self._session, failure):
                    raise
                self._session.wait(failure, "lost the connection")
            else:
                break
        if is_here:
            self._tell_unchanged(item, Receipt((), item.data.size or 0, 0, None, 0.0, unchanged=True))
        else:
            self._tree.watcher.wanted(item)

    def _agrees(self, item: Item) -> bool:
        self._session.request(Request("STAT", item.name))
        version = understand(self._session, self._session.reply()).version
        with self._complete_file(item) as file:
            if file is None or file.size != version.size:
                return False
            try:
                return compare(self._session, item.name, version, file, whole_digest=False)[0]
            except Changed:
                return False

    def _came(self, item: Item, size_bytes: int) -> None:
        with self._tree.lock:
            self._tree.watcher.came(item, size_bytes)

    def _target(self, item: Item) -> LocalFile:
        return LocalFile(self._small_files.directory(item)[1], item.path, durable=self._tree.durable)
