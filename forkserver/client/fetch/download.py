"""Fetch one file: ask for it piece by piece, receive, verify, and only then let it take its name. Runs at the user's.

A piece is verified by the digest that the server gives of just this piece. So what came before a connection was lost
need not come again, from one connection to the next and from one run to the next, as long as the server's validator
says that the file is the same. Nor need all pieces come over one connection, or from one server: in the end one server
is asked for the digests of the pieces that others have sent, and those on which it does not agree are fetched again.

The validator also changes where the content does not: with the permissions, or a further link. So a file that changes
while it is fetched is not given up: the version that the server has now is fetched, and what came of the one before is
in doubt, as if another server had sent it. A long file that is here already is likewise compared, not fetched.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forkserver.client.fetch.compare import compare, digests
from forkserver.client.fetch.job import NO_WISHES, Job, Wishes
from forkserver.client.fetch.puller import Helper, Puller
from forkserver.client.local.complete import complete_file
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure, Receipt
from forkserver.client.remote.answers import DIGEST, Changed, NoDigests, answered_by, understand
from forkserver.protocol.messages import Reply, Request, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from forkserver.client.content import Known, Target
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session

_USELESS = frozenset({"changed", "truncated"})
"""After such a failure the next run will not find the same file: what came of it is of no use."""
_PATIENCE_S = 1.0


def fetch_file(  # noqa: PLR0913 - what may be said of one file, each once
    session: Session,
    name: bytes,
    target: Target,
    progress: Callable[[int, int], None],
    *,
    wishes: Wishes = NO_WISHES,
    helpers: Sequence[Session] = (),
) -> Receipt:
    """Fetch the file ``name`` into ``target``.

    ``progress`` is called with the bytes that are here, and with all, the first time before any came. A connection that
    is lost is made again, as often as ``session`` retries, and a file that changes on the server is asked for again as
    often. Of a file of several pieces ``helpers`` fetch some, each in a thread of its own. Raises Failure; then
    ``target`` has not been told to finish.
    """
    started = time.monotonic()
    session.renew()
    job = Job(name, target, progress, wishes)
    lead = _Lead(job, session, [Helper(job, helper) for helper in helpers])
    try:
        lead.run()
    except BaseException as error:
        lead.end(error)
        # The next version of a file that keeps changing may still have the same content.
        if isinstance(error, Failure) and error.word in _USELESS and not isinstance(error, Changed):
            target.reject()
        raise
    wants_digest = wishes.expected or wishes.whole_digest or job.size <= PIECE_BYTES
    digest = (job.digest or target.digest()) if wants_digest else None
    if (expected := wishes.expected) and digest != expected:
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
        began_anew=job.began_anew,
        kept=job.kept,
    )


class _Lead(Puller):
    """Is the first to ask, and has the last word."""

    def __init__(self, job: Job, session: Session, helpers: Sequence[Helper]) -> None:
        super().__init__(job, session)
        self._helpers = helpers
        self._begun = self._helping = False

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
        self._start_helpers()
        super()._go_on()
        while self._job.stopped is None and not self._job.unchanged and self._settle_doubts():
            super()._go_on()

    def _begin(self) -> None:
        """Learn what there is to fetch: with the first piece, or, where that may be here already, before."""
        job, target = self._job, self._job.target
        location = target.location()
        if location is None:
            self._begin_with_a_piece(None)
            return
        with complete_file(*location) as file:
            if target.left_over():
                self._begin_with_what_is_here(None)
            elif file is not None and (file.size > PIECE_BYTES or job.wishes.by_content):
                self._begin_with_what_is_here(file)
            else:
                have, expected = file.etag if file is not None else None, job.wishes.expected
                if have and expected and target.digest() != expected:
                    have = None  # damaged without a trace, or the server has another by now
                self._begin_with_a_piece(have)

    def _begin_with_a_piece(self, have: str | None) -> None:
        """Ask for the first piece, unless the server's etag still is ``have``."""
        job = self._job
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

    def _begin_with_what_is_here(self, file: CompleteFile | None) -> None:
        """Ask which version the server has. That may be ``file``; else a part of it may be here."""
        self._session.request(Request("STAT", self._job.name))
        known = understand(self._session, self._session.reply())
        self._learned(known)
        self._job.size = known.version.size
        self._job.unchanged = file is not None and self._is_here(file, known)
        if not self._job.unchanged:
            self._job.begin(known.version)
        self._begun = True
        self._keep_heads()

    def _keep_heads(self) -> None:
        """Have the server vouch for what an earlier run has left of pieces, before helpers ask for these pieces."""
        job, version = self._job, self.known.version
        heads = list(job.target.begun())
        found = digests(self._session, job.name, version, [(offset, length) for offset, length, _ in heads])
        try:
            for (offset, length, digest), right in zip(heads, found, strict=True):
                if digest == right:
                    job.keep_head(offset, length, version)
        except NoDigests:
            self._session.abandon()

    def _is_here(self, file: CompleteFile, known: Known) -> bool:
        """Whether ``file`` is what is wanted, and the version ``known``: by its etag, else by its content."""
        wishes, version = self._job.wishes, known.version
        if file.size != version.size:
            return False
        if file.etag == version.etag and not wishes.by_content:
            return not wishes.expected or self._job.target.digest() == wishes.expected
        whole_digest = bool(wishes.whole_digest or wishes.expected) or file.size <= PIECE_BYTES
        agrees, digest = compare(self._session, self._job.name, version, file, whole_digest=whole_digest)
        if not (agrees and file.confirm(known)):
            return False
        self._job.digest = digest
        return True

    def _learn(self, reply: Reply) -> None:
        self._learned(understand(self._session, reply))
        self._job.size = self.known.version.size
        if reply.status is Status.UNCHANGED:
            self._job.unchanged = True
        else:
            self._job.begin(self.known.version)
        self._begun = True

    def _start_helpers(self) -> None:
        if not (self._helping or self._job.unchanged) and self._job.size - self._job.here > PIECE_BYTES:
            self._helping = True
            for helper in self._helpers:
                helper.start()

    def _settle_doubts(self) -> bool:
        """Have this server vouch for the pieces of other versions. Gives whether some are to be fetched again."""
        job, version = self._job, self.known.version
        job.target.vouch_by(version)
        doubtful = list(job.target.doubtful())
        found = digests(self._session, job.name, version, [(offset, length) for offset, length, _ in doubtful])
        again = False
        try:
            for (offset, length, digest), right in zip(doubtful, found, strict=True):
                if digest == right:
                    job.target.verified(offset, length, digest, version)
                else:
                    job.fetch_again((offset, length))
                    again = True
        except NoDigests:
            self._session.abandon()
            for offset, length, _ in list(job.target.doubtful()):
                job.fetch_again((offset, length))
            again = True
        return again
