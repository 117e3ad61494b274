"""Fetch one file: ask for it piece by piece, receive, verify, and only then let it take its name. Runs at the user's.

A piece is verified by the digest that the server gives of just this piece. So what came before a connection was lost
need not come again, from one connection to the next and from one run to the next, as long as the server's validator
says that the file is the same.
"""

from __future__ import annotations

import itertools
import time
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client import metadata
from forkserver.client.connection import violation
from forkserver.client.display import count
from forkserver.client.outcome import Exit, Failure, Served, refusal
from forkserver.client.partial import PIECE_BYTES, Version
from forkserver.protocol.messages import End, ProtocolError, Reply, Request, Status, Trailer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.connection import Session
    from forkserver.client.target import Target

DIGEST = "sha256"
ENDINGS = {
    End.CHANGED: "the file was modified while it was being sent",
    End.TRUNCATED: "the file became shorter while it was being sent",
    End.READ_ERROR: "the server could not read the file to the end",
    End.DRAINING: "the server is being stopped",
}
"""What a trailer other than ``ok`` means to people."""
PASSING = frozenset({"connection-lost", "timeout", "no-answer", "draining"})
"""Failures in the middle of a file after which the rest is asked for again; then also a server that is not there."""
_NOT_THE_SAME = frozenset({Status.CHANGED, Status.NOT_FOUND, Status.NOT_A_FILE, Status.BAD_RANGE})
"""To a request for a further piece."""
_USELESS = frozenset({"changed", "truncated"})
"""After such a failure the next run will not find the same file: what came of it is of no use."""
_BROKEN_OFF = frozenset(end.word for end in ENDINGS)
_WINDOW = 2


class Receipt(NamedTuple):
    """A file that is here, whole and verified.

    ``served`` is who sent a part of it in this run, in order, or said that there is no need to; ``received`` is how
    many bytes came. ``digest`` is ``sha256:`` and hexadecimal digits, or None where the pieces were verified and nobody
    asked for that of the whole. ``seconds`` is what it took. ``unchanged``: it was here before. ``began_anew``: a part
    of another version was.
    """

    served: tuple[Served, ...]
    size: int
    received: int
    digest: str | None
    seconds: float
    unchanged: bool = False
    began_anew: bool = False


def fetch(  # noqa: PLR0913 - what may be said of one file, each once
    session: Session,
    name: bytes,
    target: Target,
    progress: Callable[[int, int], None],
    *,
    expected: str | None = None,
    whole_digest: bool = False,
) -> Receipt:
    """Fetch the file ``name`` into ``target``; ``progress`` is called with the bytes that are here, and with all.

    A connection that is lost is made again, as often as ``session`` retries. ``expected`` is what the SHA-256 of the
    whole must be, in hexadecimal digits; ``whole_digest``: find it out in any case. Raises Failure; then ``target``
    has not been told to finish.
    """
    started = time.monotonic()
    session.renew()
    work = _Work(session, name, target, progress, expected)
    try:
        while not work.done:
            try:
                work.go_on()
            except Failure as failure:
                if not work.may_pass(failure):
                    raise
                session.abandon()
                session.wait(failure, "lost the connection")
    except BaseException as error:
        session.abandon()
        if isinstance(error, Failure) and error.word in _USELESS:
            target.reject()
        raise
    digest = target.digest() if expected or whole_digest or work.size <= PIECE_BYTES else None
    if expected and digest != expected:
        target.reject()
        reason = f"its {DIGEST} is {digest}, and not {expected} as was expected; one of the two is of another version"
        raise Failure(Exit.INTEGRITY, "checksum-mismatch", reason, work.served[-1])
    if not work.unchanged:
        target.finish(work.known)
    return Receipt(
        served=tuple(work.served),
        size=work.size,
        received=work.received,
        digest=f"{DIGEST}:{digest}" if digest else None,
        seconds=time.monotonic() - started,
        unchanged=work.unchanged,
        began_anew=target.discarded,
    )


def answered_by(session: Session) -> Served:
    """Who gave the session's last answer."""
    if session.served is None:
        raise AssertionError("there has been an answer")
    return session.served


class Known(NamedTuple):
    """What the server said of the file when it was first asked: its version and its permission bits."""

    version: Version
    mode: int


class _Work:
    """One file on its way, over as many connections as it takes."""

    def __init__(
        self,
        session: Session,
        name: bytes,
        target: Target,
        progress: Callable[[int, int], None],
        expected: str | None,
    ) -> None:
        self._session = session
        self._name = name
        self._target = target
        self._progress = progress
        self._expected = expected
        self._missing: Iterator[tuple[int, int]] = iter(())
        self._requested: deque[tuple[int, int]] = deque()
        self._known: Known | None = None
        self._lost = False
        self._here = self._before = 0
        self.done = self.unchanged = False
        self.size = self.received = 0
        self.served: list[Served] = []

    @property
    def known(self) -> Known:
        """What is being fetched."""
        if self._known is None:
            raise AssertionError("nothing was asked yet")
        return self._known

    def may_pass(self, failure: Failure) -> bool:
        """Whether ``failure`` is one of those that another connection may mend. How far it came becomes part of it."""
        if self._known and failure.exit_status is Exit.UNREACHABLE:
            failure.reason += f" after {count(self._before + self._session.received_bytes)} of {count(self.size)} bytes"
        elif failure.word in _BROKEN_OFF and self._here < self.size:
            failure.reason += f" after {count(self._here)} of {count(self.size)} bytes"
        passing = failure.word in PASSING or (self._lost and failure.word == "unreachable")
        self._lost = self._lost or (passing and self._known is not None)
        return passing and self._lost

    def go_on(self) -> None:
        """Fetch what is missing. Raises Failure."""
        if self._known is None:
            self._begin()
        else:
            self._missing = itertools.chain(self._requested, self._missing)
            self._requested = deque()
            self._here = self._target.here
        self._ask_ahead()
        while self._requested:
            self._take(self._session.reply())
        if not self.served:  # all of it was here before
            self.served.append(answered_by(self._session))
        self.done = True

    def _begin(self) -> None:
        """Learn what there is to fetch: with the first piece, or, where that may be here already, before."""
        left = self._target.left_over()
        if left is not None and left.server == str(self._session.address):
            self._session.request(Request("STAT", self._name))
            self._learn(self._session.reply())
            return
        have = self._target.have()
        if have and self._expected and self._target.digest() != self._expected:
            have = None  # damaged without a trace, or the server has another by now
        self._session.request(Request("GET", self._name, length=PIECE_BYTES, digest=DIGEST, unless_etag=have))
        reply = self._session.reply()
        self._learn(reply)
        if not self.unchanged:
            self._requested.append(next(self._missing))
            self._take(reply)

    def _learn(self, reply: Reply) -> None:
        self._known = understand(self._session, reply)
        self.size = self._known.version.size
        if reply.status is Status.UNCHANGED:
            self.unchanged = True
            return
        self._missing = iter(self._target.begin(self._known.version))
        self._here = self._target.here

    def _ask_ahead(self) -> None:
        """Have the next pieces requested before the one that comes has come."""
        for offset, length in itertools.islice(self._missing, _WINDOW - len(self._requested)):
            self._session.request(
                Request("GET", self._name, offset=offset, length=length, digest=DIGEST, if_etag=self.known.version.etag)
            )
            self._requested.append((offset, length))
        self._session.flush()

    def _take(self, reply: Reply) -> None:
        offset, length = self._requested[0]
        served = check_promise(self._session, reply, self.known.version.etag, offset, length)
        self._ask_ahead()  # after the first piece of all, whose reply told how many there are
        if served not in self.served:
            self.served.append(served)
        self._before = self._here
        digest = receive(self._session, self._target, offset, self._came)
        self._target.verified(offset, length, digest)
        self._requested.popleft()
        self._session.renew()
        self._ask_ahead()

    def _came(self, size_bytes: int) -> None:
        self.received += size_bytes
        self._here += size_bytes
        self._progress(self._here, self.size)


def understand(session: Session, reply: Reply) -> Known:
    """What the first reply to a GET or STAT of a file says of it. Raises Failure."""
    served = answered_by(session)
    if reply.status not in (Status.OK, Status.UNCHANGED):
        raise refusal(reply, served)
    try:
        data = metadata.read(reply.fields.get("type", ""), reply.fields)
    except ProtocolError as error:
        raise violation(error, served) from error
    if data.kind == "dir":
        raise refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), served)
    if data.size is None or data.etag is None:
        raise violation(ProtocolError(Status.BAD_REQUEST, "a file without an etag"), served)
    return Known(Version(data.size, data.etag, data.mtime_ns, str(session.address)), int(data.mode, 8))


def check_promise(session: Session, reply: Reply, etag: str, offset: int, length: int) -> Served:
    """Whether the piece follows that was asked for; gives who sends it. Raises Failure."""
    served = answered_by(session)
    if reply.status in _NOT_THE_SAME:
        word, reason = Status.CHANGED.word, "the file was modified or replaced while it was being fetched"
        raise Failure(Exit.INTEGRITY, word, reason, served)
    if reply.status is not Status.OK:
        raise refusal(reply, served)
    wanted = {"offset": str(offset), "length": str(length), "etag": etag}
    if {key: reply.fields.get(key) for key in wanted} != wanted:
        error = ProtocolError(Status.BAD_REQUEST, "another part of the file was promised than was asked for")
        raise violation(error, served)
    return served


def receive(session: Session, target: Target, offset: int, came: Callable[[int], None]) -> str:
    """Pass a content on to ``target`` and verify it; ``came`` is called with the size of every part.

    Gives the digest, in hexadecimal digits. Raises Failure.
    """
    hasher = sha256()
    while not isinstance(part := session.receive(memoryview), Trailer):
        hasher.update(part)
        target.write(offset, part)
        offset += len(part)
        came(len(part))
    digest = hasher.hexdigest()
    served = answered_by(session)
    # Only a trailer that stands after all of the content can be "ok".
    if part.end is not End.OK:
        raise Failure(Exit.INTEGRITY, part.end.word, ENDINGS[part.end], served)
    if part.fields.get("digest", "").lower() != f"{DIGEST}:{digest}":
        reason = f"the content arrived damaged: its {DIGEST} is not the one the server sent"
        raise Failure(Exit.INTEGRITY, "digest-mismatch", reason, served)
    return digest
