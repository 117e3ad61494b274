"""Fetch one file: ask for it piece by piece, receive, verify, and only then let it take its name. Runs at the user's.

A piece is verified by the digest that the server gives of just this piece. So what came before a connection was lost
need not come again, from one connection to the next and from one run to the next, as long as the server's validator
says that the file is the same. Nor need all pieces come over one connection, or from one server: in the end one server
is asked for the digests of the pieces that others have sent, and those on which it does not agree are fetched again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.display import count, counted
from forkserver.client.fetch.job import Job
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure, Served
from forkserver.client.remote.answers import (
    DIGEST,
    ENDINGS,
    PASSING,
    Known,
    Version,
    answered_by,
    check_promise,
    receive,
    understand,
)
from forkserver.client.remote.connection import violation
from forkserver.protocol.messages import ProtocolError, Reply, Request, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkserver.client.remote.connection import Session
    from forkserver.client.remote.content import Target

_USELESS = frozenset({"changed", "truncated"})
"""After such a failure the next run will not find the same file: what came of it is of no use."""
_BROKEN_OFF = frozenset(end.word for end in ENDINGS)
_WINDOW = 2
_VOUCHING_WINDOW = 16
_PATIENCE_S = 1.0


class Receipt(NamedTuple):
    """A file that is here, whole and verified.

    ``served`` is who sent a part of it in this run, in order, or said that there is no need to. ``received`` is how
    many bytes came, and ``kept`` how many were here before. ``digest`` is ``sha256:`` and hexadecimal digits, or None
    where the pieces were verified and nobody asked for that of the whole. ``seconds`` is what it took. ``unchanged``:
    it was here before. ``began_anew``: a part of another version was.
    """

    served: tuple[Served, ...]
    size: int
    received: int
    digest: str | None
    seconds: float
    unchanged: bool = False
    began_anew: bool = False
    kept: int = 0


def fetch_file(  # noqa: PLR0913 - what may be said of one file, each once
    session: Session,
    name: bytes,
    target: Target,
    progress: Callable[[int, int], None],
    *,
    expected: str | None = None,
    whole_digest: bool = False,
    helpers: Sequence[Session] = (),
) -> Receipt:
    """Fetch the file ``name`` into ``target``.

    ``progress`` is called with the bytes that are here, and with all, the first time before any came. A connection that
    is lost is made again, as often as ``session`` retries. ``expected`` is what the SHA-256 of the whole must be, in
    hexadecimal digits; ``whole_digest``: find it out in any case. Of a file of several pieces ``helpers`` fetch some,
    each in a thread of its own. Raises Failure; then ``target`` has not been told to finish.
    """
    started = time.monotonic()
    session.renew()
    job = Job(name, target, progress, expected)
    lead = _Lead(job, session, [_Helper(job, helper) for helper in helpers])
    try:
        lead.run()
    except BaseException as error:
        lead.end(error)
        if isinstance(error, Failure) and error.word in _USELESS:
            target.reject()
        raise
    digest = target.digest() if expected or whole_digest or job.size <= PIECE_BYTES else None
    if expected and digest != expected:
        target.reject()
        reason = f"its {DIGEST} is {digest}, and not {expected} as was expected; one of the two is of another version"
        raise Failure(Exit.INTEGRITY, "checksum-mismatch", reason, job.served[-1])
    if not job.unchanged:
        target.finish(lead.known)
    return Receipt(
        served=tuple(job.served),
        size=job.size,
        received=job.received,
        digest=f"{DIGEST}:{digest}" if digest else None,
        seconds=time.monotonic() - started,
        unchanged=job.unchanged,
        began_anew=target.discarded,
        kept=job.kept,
    )


class _Moved(Exception):
    """The session turned to another server: what was learned from the one before does not hold."""


class _Puller:
    """Fetches pieces of a job, one after the other, over as many connections as it takes."""

    def __init__(self, job: Job, session: Session) -> None:
        self._job = job
        self._session = session
        self._requested: deque[tuple[int, int]] = deque()
        self._known: Known | None = None
        self._lost = False
        self._came_bytes = 0

    @property
    def known(self) -> Known:
        """What is being fetched."""
        if self._known is None:
            raise AssertionError("nothing was asked yet")
        return self._known

    def run(self) -> None:
        """Fetch as long as there is anything. Raises Failure."""
        while True:
            try:
                self._go_on()
            except _Moved:
                self._session.abandon()
                self._put_back()
                self._known, self._lost = None, True
            except Failure as failure:
                passing = self._may_pass(failure)
                self._put_back()
                if self._job.stopped is not None or self._job.over or not passing:
                    raise
                self._session.abandon()
                self._session.wait(failure, "lost the connection")
                if self._known and str(self._session.address) != self._known.version.server:
                    self._known = None
            else:
                return

    def _put_back(self) -> None:
        self._job.give_back(iter(self._requested), self._came_bytes)
        self._requested.clear()
        self._came_bytes = 0

    def _may_pass(self, failure: Failure) -> bool:
        """Whether ``failure`` is one of those that another connection may mend. How far it came becomes part of it."""
        job = self._job
        before = job.here - self._came_bytes
        if self._known and failure.exit_status is Exit.UNREACHABLE:
            failure.reason += f" after {count(before + self._session.received_bytes)} of {counted(job.size, 'byte')}"
        elif failure.word in _BROKEN_OFF and job.here < job.size:
            failure.reason += f" after {count(job.here)} of {counted(job.size, 'byte')}"
        passing = failure.word in PASSING or (self._lost and failure.word == "unreachable")
        self._lost = self._lost or (passing and self._known is not None)
        return passing and self._lost

    def _go_on(self) -> None:
        if self._known is None:
            self._learn_again()
        while self._ask_ahead():
            self._take(self._session.reply())

    def _learn_again(self) -> None:
        """Of a server that was not asked before. One that has another file is asked no more. Raises Failure."""
        while True:
            self._session.request(Request("STAT", self._job.name))
            reply = self._session.reply()
            if reply.status is Status.NOT_FOUND and self._session.exclude():
                continue
            known = understand(self._session, reply)
            if known.version.size == self._job.size:
                self._known = known
                return
            reason = f"{self._session.address} has another file of that name, of {counted(known.version.size, 'byte')}"
            if not self._session.exclude():
                raise Failure(Exit.INTEGRITY, Status.CHANGED.word, reason, self._session.served)

    def _ask_ahead(self) -> bool:
        """Have the next pieces requested before the one that comes has come. Gives whether anything is due."""
        while len(self._requested) < _WINDOW:
            piece = self._job.take(wait=not self._requested)
            if piece is None:
                break
            offset, length = piece
            self._requested.append(piece)
            etag = self.known.version.etag
            self._session.request(
                Request("GET", self._job.name, offset=offset, length=length, digest=DIGEST, if_etag=etag)
            )
        self._session.flush()
        return bool(self._requested)

    def _take(self, reply: Reply) -> None:
        version = self.known.version
        self._stay(version)
        offset, length = self._requested[0]
        served = check_promise(self._session, reply, version.etag, offset, length)
        self._job.note(served)
        self._ask_ahead()  # after the first piece of all, whose reply told how many there are
        digest = receive(self._session, self._job.target, offset, self._came)
        self._job.target.verified(offset, length, digest, version)
        self._requested.popleft()
        self._came_bytes = 0
        if self._job.done():
            self._session.renew()

    def _came(self, size_bytes: int) -> None:
        self._came_bytes += size_bytes
        self._job.came(size_bytes)

    def _stay(self, version: Version) -> None:
        if str(self._session.address) != version.server:
            raise _Moved


class _Helper(_Puller):
    """Does so in a thread, and drops out where it cannot."""

    def __init__(self, job: Job, session: Session) -> None:
        super().__init__(job, session)
        self._thread = threading.Thread(target=self._run_in_thread, daemon=True)

    def start(self) -> None:
        """Fetch, in a thread."""
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
            # Another can do what a server would not; nobody can do without a disk.
            if failure.exit_status is Exit.LOCAL_DISK:
                self._job.stop(failure)
        except BaseException as error:  # noqa: BLE001 - the thread that waits for this one raises it
            self._job.stop(error)
        finally:
            self._put_back()
            self._session.close()


class _Lead(_Puller):
    """Is the first to ask, and has the last word."""

    def __init__(self, job: Job, session: Session, helpers: Sequence[_Helper]) -> None:
        super().__init__(job, session)
        self._helpers = helpers
        self._begun = False

    def run(self) -> None:
        """Fetch all of it. Raises Failure."""
        super().run()
        if self._job.stopped is None:
            # Some may still wait for a server that is full, or hangs. Nobody needs them now.
            self._job.end()
        self._join()
        if self._job.stopped is not None:
            raise self._job.stopped
        if not self._job.served:  # all of it was here before
            self._job.note(answered_by(self._session))

    def _join(self) -> None:
        """Wake all who wait, and wait for them a moment: one that is just connecting cannot be woken."""
        for helper in self._helpers:
            helper.interrupt()
        deadline = time.monotonic() + _PATIENCE_S
        for helper in self._helpers:
            helper.join(max(deadline - time.monotonic(), 0))

    def end(self, error: BaseException) -> None:
        """Have everybody end."""
        self._session.abandon()
        self._job.stop(error)
        self._join()

    def _go_on(self) -> None:
        if not self._begun:
            self._begin()
        super()._go_on()
        while self._job.stopped is None and not self._job.unchanged and self._settle_doubts():
            super()._go_on()

    def _begin(self) -> None:
        """Learn what there is to fetch: with the first piece, or, where that may be here already, before."""
        job, target = self._job, self._job.target
        if target.left_over():
            self._session.request(Request("STAT", job.name))
            self._learn(self._session.reply())
            self._start_helpers()
            return
        have = target.have()
        if have and job.expected and target.digest() != job.expected:
            have = None  # damaged without a trace, or the server has another by now
        self._session.request(Request("GET", job.name, length=PIECE_BYTES, digest=DIGEST, unless_etag=have))
        reply = self._session.reply()
        self._learn(reply)
        if not job.unchanged:
            first = job.take(wait=False)
            if first is None:
                raise AssertionError("every file has a first piece")
            self._requested.append(first)
            self._start_helpers()  # not before: one of them might have taken that piece
            self._take(reply)

    def _learn(self, reply: Reply) -> None:
        self._known = understand(self._session, reply)
        self._job.size = self._known.version.size
        if reply.status is Status.UNCHANGED:
            self._job.unchanged = True
        else:
            self._job.begin(self._known.version)
        self._begun = True

    def _start_helpers(self) -> None:
        if self._job.size - self._job.here > PIECE_BYTES:
            for helper in self._helpers:
                helper.start()

    def _settle_doubts(self) -> bool:
        """Have this server vouch for the pieces that others have sent. Gives whether some are to be fetched again."""
        target, version = self._job.target, self.known.version
        target.vouch_by(version)
        asked: deque[tuple[int, int, str]] = deque()
        again = False
        for doubtful in target.doubtful():
            offset, length, _ = doubtful
            self._session.request(
                Request("STAT", self._job.name, offset=offset, length=length, digest=DIGEST, if_etag=version.etag)
            )
            asked.append(doubtful)
            if len(asked) >= _VOUCHING_WINDOW:
                again |= self._settle(*asked.popleft())
        while asked:
            again |= self._settle(*asked.popleft())
        return again

    def _settle(self, offset: int, length: int, digest: str) -> bool:
        reply = self._session.reply()
        version = self.known.version
        self._stay(version)
        served = check_promise(self._session, reply, version.etag, offset, length)
        if reply.fields.get("digest", "").lower() == f"{DIGEST}:{digest}":
            self._job.target.verified(offset, length, digest, version)
            return False
        if not reply.fields.get("digest", "").startswith(f"{DIGEST}:"):
            raise violation(ProtocolError(Status.BAD_REQUEST, "a digest was asked for, and none came"), served)
        self._job.fetch_again((offset, length))
        return True
