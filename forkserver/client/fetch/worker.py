"""Fetch files of a tree over one connection, with many requests on the way. Runs in the client.

The validator that was noted with a file tells whether the file is unchanged; without a validator, size and time tell.
To compare contents, the worker asks for the digest of every small file that has the right size here, and fetches the
file only if the digests differ.
"""

from __future__ import annotations

import time
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.events import Fetched, Progress, WouldFetch
from forkserver.client.fetch.compare import Moved, compare
from forkserver.client.fetch.download import fetch_file
from forkserver.client.fetch.localcopy import find_unchanged, has_right_size, local_copy
from forkserver.client.fetch.smallfiles import SmallFiles
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.local.target import LocalFile
from forkserver.client.outcome import Exit, Failure, Reach, Receipt, Word
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
from forkserver.client.remote.listing import Enclosed
from forkserver.client.remote.session import WINDOW
from forkserver.protocol.messages import Request, Status, digest_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.treestate import TreeState
    from forkserver.client.local.place import Place
    from forkserver.client.remote.session import Session
    from forkserver.protocol.messages import Reply, Trailer

_MOST_TRIES = 3
"""Most attempts to fetch a small file that changes each time it is sent."""


class _Asked(NamedTuple):
    """A request on its way: for a file, or for its digest alone. The file has changed ``tries`` times so far."""

    item: Item
    digest_only: bool = False
    tries: int = 0


class Worker:
    """Fetches files over ``session`` into ``place``, or tells in a dry run which files would be fetched."""

    def __init__(self, state: TreeState, session: Session, place: Place) -> None:
        self._state = state
        self._session = session
        self._place = place
        self._small_files = SmallFiles(state, place)
        self._server_gives_digests = True
        """False once a server has refused a request for a digest: an older server refuses every such request."""
        self._requested: deque[_Asked] = deque()
        self._writable: bytes | None = None
        """The directory that was found writable last."""

    def run(self, items: Iterator[Item]) -> None:
        """Fetch every item. Raises Failure if nothing more can be fetched."""
        for item in items:
            if self._is_here(item):
                continue
            if item.data.size is not None and item.data.size > PIECE_BYTES:
                self._take_answers(leave=0)
                if self._state.dry:
                    self._plan_alone(item)
                else:
                    self._fetch_alone(item)
            elif self._state.wishes.by_content and self._server_gives_digests and has_right_size(self._place, item):
                self._request(_Asked(item, digest_only=True))
            else:
                self._request_content(item)
            if len(self._requested) >= WINDOW:
                self._take_answers(leave=WINDOW // 2)
        self._take_answers(leave=0)

    def _is_here(self, item: Item) -> bool:
        if item.directory in self._state.made:
            return False
        self._state.note_found(item)
        if self._state.wishes.by_content:
            return False
        whole_digest = self._state.wishes.whole_digest and not self._state.dry
        receipt = find_unchanged(self._place, item, whole_digest=whole_digest)
        if receipt is None:
            return False
        self._state.emit(Fetched(item.name, item.path, receipt))
        return True

    def _can_write(self, item: Item) -> bool:
        """Return whether the directory of ``item`` can be written into. If not, tell that ``item`` failed."""
        directory = item.directory
        failure = self._state.closed.get(directory)
        if failure is None and directory != self._writable and directory not in self._state.made:
            try:
                self._place.check_writable(directory)
                self._writable = directory
            except OSError as error:
                failure = self._place.failure(item.path, error)
        if failure is not None:
            self._state.fail(item, failure)
        return failure is None

    def _request_content(self, item: Item) -> None:
        """Request a small file, or tell in a dry run that a file would be fetched. Raises Failure."""
        if self._state.dry:
            self._state.emit(WouldFetch(item.name, item.path, item.data.size or 0))
        elif self._can_write(item):
            self._request(_Asked(item))

    def _request(self, asked: _Asked) -> None:
        verb = "STAT" if asked.digest_only else "GET"
        self._session.request(Request(verb, asked.item.name, length=PIECE_BYTES, digest=DIGEST))
        self._requested.append(asked)

    def _take_answers(self, *, leave: int) -> None:
        """Take answers, until no more than ``leave`` are due."""
        while len(self._requested) > leave:
            asked = self._requested[0]
            item = asked.item
            started = time.monotonic()
            try:
                # If one of these two calls raises, the answer is still due.
                whole = self._session.whole_answer()
                reply = whole[0] if whole else self._session.reply()
                self._requested.popleft()
                if asked.digest_only:
                    receipt = self._compare(item, reply, started)
                else:
                    receipt = self._take_whole(item, *whole, started) if whole else self._take(item, reply, started)
            except Failure as failure:
                self._after(asked, failure)
                continue
            self._session.renew()
            if receipt is None:
                self._request_content(item)
            else:
                self._state.emit(Fetched(item.name, item.path, receipt))

    def _compare(self, item: Item, reply: Reply, started: float) -> Receipt | None:
        """Return a receipt if the local file has the digest in ``reply``, else None. Raises Failure.

        Outside a dry run the local file then gets the server's time and permissions; None, too, if that fails.
        """
        if reply.status is Status.BAD_REQUEST:
            self._server_gives_digests = False
        if reply.status in (Status.BAD_REQUEST, Status.CHANGED):
            return None
        known = understand(self._session, reply)
        size = known.version.size
        with local_copy(self._place, item) as file:
            if file is None or file.size != size or size > PIECE_BYTES:
                return None
            served = check_promise(self._session, reply, known.version.etag, 0, size)
            digest = sha256(file.read(0, size)).hexdigest()
            if digest != digest_in(reply, served) or not (self._state.dry or file.confirm(known)):
                return None
        return Receipt((served,), size, 0, digest_field(DIGEST, digest), time.monotonic() - started, unchanged=True)

    def _after(self, asked: _Asked, failure: Failure) -> None:
        """Ask again after ``failure``, or tell that the item failed. Raises ``failure`` if the worker must end."""
        if self._state.stopped_by is not None:
            raise failure
        tries = asked.tries + 1
        if may_pass(self._session, failure):
            if not self._is_due(asked):
                self._request(asked)  # behind the requests on their way
            self._session.wait(failure, "lost the connection")
        elif isinstance(failure, Changed) and tries < _MOST_TRIES:
            self._request(asked._replace(tries=tries))
        elif failure.exit_status is Exit.UNREACHABLE or self._is_due(asked):
            # No file came, and none will: no forkserver answers, or the server breaks the protocol or stays busy.
            raise failure
        else:
            self._state.fail(asked.item, failure)
            if failure.reach is Reach.DIRECTORY:
                self._withdraw()

    def _withdraw(self) -> None:
        """Leave out files that are to be fetched into closed directories. Send all other requests again.

        The connection is closed if answers are due.
        """
        requested = list(self._requested)
        self._requested.clear()
        self._session.abandon()
        for asked in requested:
            if asked.digest_only or self._can_write(asked.item):
                self._request(asked)

    def _is_due(self, asked: _Asked) -> bool:
        return bool(self._requested) and self._requested[0] is asked

    def _take_whole(self, item: Item, reply: Reply, content: memoryview, trailer: Trailer, started: float) -> Receipt:
        """Take a small file that has arrived whole, as most do."""
        known = understand(self._session, reply)
        served = check_promise(self._session, reply, known.version.etag, 0, known.version.size)
        enclosed = Enclosed(content, trailer.fields.get("digest", ""), known, served)
        return self._small_files.put(item, enclosed, started)

    def _take(self, item: Item, reply: Reply, started: float) -> Receipt:
        known = understand(self._session, reply)
        size = known.version.size
        if size > PIECE_BYTES:
            reason = "the file has grown since it was listed; fetch it again"
            raise Failure(Exit.INTEGRITY, Word.CHANGED, reason, answered_by(self._session))
        served = check_promise(self._session, reply, known.version.etag, 0, size)
        here = 0

        def came(size_bytes: int) -> None:
            nonlocal here
            here += size_bytes
            if here < size:  # ``Fetched`` tells the rest
                self._state.emit(Progress(item.name, here, size))

        with self._target(item) as target:
            target.begin(known.version)
            digest = receive(self._session, target, 0, came)
            target.verified(0, size, digest, known.version)
            target.finish(known)
        return Receipt((served,), size, size, digest_field(DIGEST, digest), time.monotonic() - started)

    def _fetch_alone(self, item: Item) -> None:
        """Fetch a file of several pieces."""
        # An unchanged file needs no directory that can be written into.
        if not (has_right_size(self._place, item) or self._can_write(item)):
            return
        try:
            with self._target(item) as target:
                receipt = fetch_file(self._session, item.name, target, self._state.emit, wishes=self._state.wishes)
        except Failure as failure:
            if failure.exit_status is Exit.UNREACHABLE:
                raise
            self._state.fail(item, failure)
        else:
            self._state.emit(Fetched(item.name, item.path, receipt))

    def _plan_alone(self, item: Item) -> None:
        """Tell in a dry run whether a file of several pieces would be fetched, by its size here and its digests."""
        self._session.renew()
        while True:
            try:
                is_here = has_right_size(self._place, item) and self._agrees(item)
            except Moved:
                self._session.abandon()
            except Failure as failure:
                self._session.abandon()
                if failure.exit_status is not Exit.UNREACHABLE:
                    self._state.fail_name(item.name, failure)
                    return
                if not may_pass(self._session, failure):
                    raise
                self._session.wait(failure, "lost the connection")
            else:
                break
        if is_here:
            receipt = Receipt((), item.data.size or 0, 0, None, 0.0, unchanged=True)
            self._state.emit(Fetched(item.name, item.path, receipt))
        else:
            self._request_content(item)

    def _agrees(self, item: Item) -> bool:
        self._session.request(Request("STAT", item.name))
        version = understand(self._session, self._session.reply()).version
        with local_copy(self._place, item) as file:
            if file is None or file.size != version.size:
                return False
            try:
                return compare(self._session, item.name, version, file, whole_digest=False)[0]
            except Changed:
                return False

    def _target(self, item: Item) -> LocalFile:
        return LocalFile(self._small_files.directory(item), item.path, durable=self._state.durable)
