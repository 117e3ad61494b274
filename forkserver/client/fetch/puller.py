"""Fetch pieces of one file over one session, whatever connections that takes. Runs in the client."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from forkserver.client.content import Known, Version
from forkserver.client.display import count
from forkserver.client.fetch.compare import Moved
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.client.remote.answers import DIGEST, ENDINGS, PASSING, Changed, check_promise, receive, understand
from forkserver.protocol.messages import Reply, Request

if TYPE_CHECKING:
    from forkserver.client.fetch.job import Job
    from forkserver.client.remote.session import Session

_OTHER_FILE = frozenset({Word.NOT_FOUND, Word.CHANGED})
"""After such an answer, another server may still have the file that was begun."""
_BROKEN_OFF = frozenset(Word(end.word) for end in ENDINGS)
_WINDOW = 2


class Puller:
    """Fetches pieces of a job, one after the other, over as many connections as it takes."""

    def __init__(self, job: Job, session: Session) -> None:
        self._job = job
        self._session = session
        self._requested: deque[tuple[int, int]] = deque()
        self._known: Known | None = None
        self._lost = False
        self._change: Changed | None = None
        """The change because of which the server must be asked which version it has now."""
        self._came_bytes = 0

    @property
    def known(self) -> Known:
        """The version that is being fetched, and its mode."""
        if self._known is None:
            raise AssertionError("no server was asked yet")
        return self._known

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
        self._job.give_back(iter(self._requested), self._came_bytes)
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
        """Ask the server, which is a new one or has changed the file, for its version.

        Exclude a server that does not have the file, or has one of another size. Raises Failure if no server is left.
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
        """Return what the reply to a STAT says of the file. Raises Failure if its size differs from the begun file."""
        known = understand(self._session, reply)
        if known.version.size != self._job.size:
            reason = f"{self._session.address} has another file of that name, of {count(known.version.size)} bytes"
            raise Failure(Exit.INTEGRITY, Word.CHANGED, reason, self._session.served)
        return known

    def _learned(self, known: Known) -> None:
        self._known, self._change = known, None

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
        self._stay(version)
        offset, length = self._requested[0]
        tail, tail_length = self._without_head((offset, length), version)
        served = check_promise(self._session, reply, version.etag, tail, tail_length)
        self._job.note(served)
        self._ask_ahead()  # now that the first reply of all has told how many pieces there are
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

    def _stay(self, version: Version) -> None:
        if str(self._session.address) != version.server:
            raise Moved


class Helper(Puller):
    """Fetches pieces in a thread, and ends quietly where it cannot."""

    def __init__(self, job: Job, session: Session) -> None:
        super().__init__(job, session)
        self._thread = threading.Thread(target=self._run_in_thread, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, patience_s: float | None = None) -> None:
        """Wait until the thread has ended."""
        if self._thread.ident is not None:
            self._thread.join(patience_s)

    def interrupt(self) -> None:
        """Wake the thread."""
        self._session.interrupt()

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except Failure as failure:
            # Other sessions can fetch the pieces of this one. No session can do without a disk.
            if failure.exit_status is Exit.LOCAL_DISK:
                self._job.stop(failure)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this one raises it
            self._job.stop(error)
        finally:
            self._put_back()
            self._session.close()
