"""Fetch pieces of one file over one session, which connects again as often as needed. Runs in the client."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from forkserver.client.content import Known, Version
from forkserver.client.display import count
from forkserver.client.fetch.compare import Moved
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.client.remote.answers import DIGEST, ENDINGS, PASSING, Changed, check_promise, receive, understand
from forkserver.protocol.messages import Reply, Request

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Thread

    from forkserver.client.fetch.job import Job
    from forkserver.client.remote.session import Session

_OTHER_FILE = frozenset({Word.NOT_FOUND, Word.CHANGED})
"""After such a failure, another server may still have the file of this job."""
_BROKEN_OFF = frozenset(Word(end.word) for end in ENDINGS)
_WINDOW = 2
_PATIENCE_S = 1.0


def join_briefly(threads: Sequence[Thread]) -> None:
    """Wait at most a second for ``threads`` to end. A thread that is connecting cannot be woken."""
    deadline = time.monotonic() + _PATIENCE_S
    for thread in threads:
        if thread.is_alive():
            thread.join(max(deadline - time.monotonic(), 0))


class Puller:
    """Fetches pieces of ``job``, one after the other, over ``session``."""

    def __init__(self, job: Job, session: Session) -> None:
        self._job = job
        self._session = session
        self._requested: deque[tuple[int, int]] = deque()
        self._known: Known | None = None
        self._lost = False
        self._change: Changed | None = None
        """The failure after which the server must be asked which version it has now."""
        self._came_bytes = 0
        """Bytes of the piece under way that have come."""

    @property
    def known(self) -> Known:
        """The version that is being fetched, and its mode."""
        if self._known is None:
            raise AssertionError("no server was asked yet")
        return self._known

    def help(self) -> None:
        """Fetch pieces in a thread of its own, besides other sessions. Close the session in the end."""
        try:
            self.run()
        except Failure as failure:
            # Other sessions can fetch the pieces of this session. No session can fetch without a disk.
            if failure.exit_status is Exit.LOCAL_DISK:
                self._job.stop(failure)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this thread raises it
            self._job.stop(error)
        finally:
            self._put_back()
            self._session.close()

    def run(self) -> None:
        """Fetch pieces until none is left. Raises Failure."""
        while True:
            try:
                self._go_on()
            except Moved:
                self._session.abandon()
                self._put_back()
                self._known, self._lost = None, True
            except Failure as failure:
                passing = self._may_pass(failure)
                self._put_back()
                if self._job.stopped is not None or self._job.over or not passing:
                    raise
                self._session.abandon()
                self._session.wait(failure, "has another version by now" if self._change else "lost the connection")
                if self._change or (self._known and str(self._session.address) != self._known.version.server):
                    self._known = None
            else:
                return

    def _put_back(self) -> None:
        self._job.give_back(self._requested, self._came_bytes)
        self._requested.clear()
        self._came_bytes = 0

    def _may_pass(self, failure: Failure) -> bool:
        """Return whether another connection may help after ``failure``. Add to its reason how much had come."""
        job = self._job
        before = job.here - self._came_bytes
        if self._known and failure.exit_status is Exit.UNREACHABLE:
            failure.reason += f" after {count(before + self._session.received_bytes)} of {count(job.size)} bytes"
        elif self._known and failure.word in _BROKEN_OFF and job.here < job.size:
            failure.reason += f" after {count(job.here)} of {count(job.size)} bytes"
        self._change = failure if isinstance(failure, Changed) else self._change
        unreachable = self._lost and failure.word == Word.UNREACHABLE
        passing = failure.word in PASSING or unreachable or failure is self._change
        self._lost = self._lost or (passing and self._known is not None)
        return passing and self._lost

    def _go_on(self) -> None:
        if self._known is None:
            self._learn_again()
        while self._ask_ahead():
            self._take(self._session.reply())

    def _learn_again(self) -> None:
        """Ask the server for its version: the session has another server now, or the server has changed the file.

        Exclude a server that does not have the file, or has a file of another size. Raises Failure if no server is
        left.
        """
        while self._known is None:
            self._session.request(Request("STAT", self._job.name))
            reply = self._session.reply()
            try:
                self._learned(self._understand(reply))
            except Failure as failure:
                if failure.word in _OTHER_FILE and self._session.exclude():
                    continue
                change = self._change
                if change is not None:
                    raise Failure(change.exit_status, change.word, change.reason, change.served) from failure
                raise

    def _understand(self, reply: Reply) -> Known:
        """Return the version in the reply to a STAT. Raises Failure if its size is not that of the job's file."""
        known = understand(self._session, reply)
        if known.version.size != self._job.size:
            reason = f"{self._session.address} has another file of that name, of {count(known.version.size)} bytes"
            raise Failure(Exit.INTEGRITY, Word.CHANGED, reason, self._session.served)
        return known

    def _learned(self, known: Known) -> None:
        self._known, self._change = known, None
        self._job.size = known.version.size

    def _ask_ahead(self) -> bool:
        """Request pieces ahead. Return whether an answer is due."""
        while len(self._requested) < _WINDOW:
            piece = self._job.take(wait=not self._requested)
            if piece is None:
                break
            self._requested.append(piece)
            version = self.known.version
            offset, length = self._without_head(piece, version)
            self._session.request(
                Request("GET", self._job.name, offset=offset, length=length, digest=DIGEST, if_etag=version.etag)
            )
        self._session.flush()
        return bool(self._requested)

    def _take(self, reply: Reply) -> None:
        version = self.known.version
        if str(self._session.address) != version.server:
            raise Moved
        offset, length = self._requested[0]
        tail, tail_length = self._without_head((offset, length), version)
        served = check_promise(self._session, reply, version.etag, tail, tail_length)
        self._job.note(served)
        self._ask_ahead()  # not earlier: only the first reply tells how many pieces there are
        digest = receive(self._session, self._job.target, tail, self._came)
        if tail != offset:
            digest = self._job.target.joined(offset, length)
        self._job.target.verified(offset, length, digest, version)
        self._requested.popleft()
        self._came_bytes = 0
        if self._job.done(offset):
            self._session.renew()

    def _without_head(self, piece: tuple[int, int], version: Version) -> tuple[int, int]:
        """Return offset and length of the missing rest of ``piece``."""
        offset, length = piece
        here = self._job.head(offset, version)
        return offset + here, length - here

    def _came(self, size_bytes: int) -> None:
        self._came_bytes += size_bytes
        self._job.came(size_bytes)
