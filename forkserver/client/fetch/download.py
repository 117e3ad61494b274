"""Fetch one file: request it piece by piece, verify each piece, then give the file its name. Runs in the client.

The server sends a digest of each piece. So pieces that came before a connection was lost need not come again, neither
over the next connection nor in the next run, as long as the server's etag says that the file is the same. Pieces may
come over several connections, and from several servers. In the end the client asks one server for the digests of the
pieces that other servers have sent, and fetches pieces with other digests again.

The etag also changes without the content: with the permissions, or with a further link. So the client does not give up
a file that changes while it is fetched. The client fetches the version that the server has now, and pieces of the
previous version are doubtful, as if another server had sent them. A long file that is already here is likewise
compared, not fetched.
"""

from __future__ import annotations

import time
from threading import Thread
from typing import TYPE_CHECKING

from forkserver.client.fetch.compare import compare, digests
from forkserver.client.fetch.job import NO_WISHES, Job, Wishes
from forkserver.client.fetch.puller import Puller, join_briefly
from forkserver.client.local.complete import complete_file
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure, Receipt, Word
from forkserver.client.remote.answers import DIGEST, Changed, answered_by, understand
from forkserver.protocol.messages import Request, Status, digest_field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forkserver.client.content import Target
    from forkserver.client.events import OnEvent
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session

_USELESS = frozenset({Word.CHANGED, Word.TRUNCATED})
"""After such a failure the next run will not find the same file, so the pieces that came are useless."""


def fetch_file(  # noqa: PLR0913 - each parameter of a fetch once
    session: Session,
    name: bytes,
    target: Target,
    on_event: OnEvent,
    *,
    wishes: Wishes = NO_WISHES,
    helpers: Sequence[Session] = (),
) -> Receipt:
    """Fetch the file ``name`` into ``target``.

    ``on_event`` is called with ``Progress``, by one thread at a time. After a lost connection, ``session`` connects
    again as often as its retries allow, and a file that changes on the server is requested again as often. ``helpers``
    fetch some pieces of a file of several pieces, each in a thread of its own. Raises Failure; ``target`` is not
    finished then.
    """
    started = time.monotonic()
    session.renew()
    job = Job(name, target, on_event, wishes)
    lead = _Lead(job, session, helpers)
    try:
        lead.run()
    except BaseException as error:
        lead.end(error)
        # A file that keeps changing may still have the same content in its next version.
        if isinstance(error, Failure) and error.word in _USELESS and not isinstance(error, Changed):
            target.reject()
        raise
    wants_digest = wishes.expected or wishes.whole_digest or job.size <= PIECE_BYTES
    digest = (job.digest or target.digest()) if wants_digest else None
    if (expected := wishes.expected) and digest != expected:
        target.reject()
        reason = f"its {DIGEST} is {digest}, and not {expected} as was expected; one of the two is of another version"
        raise Failure(Exit.INTEGRITY, Word.CHECKSUM_MISMATCH, reason, job.served[-1])
    if not job.unchanged:
        target.finish(lead.known)
    return Receipt(
        served=tuple(job.served),
        size=job.size,
        received=job.received,
        digest=digest_field(DIGEST, digest) if digest else None,
        seconds=time.monotonic() - started,
        unchanged=job.unchanged,
        began_anew=job.began_anew,
        kept=job.kept,
    )


class _Lead(Puller):
    """Asks for the version, starts a thread for each session of ``helpers``, and compares doubtful pieces."""

    def __init__(self, job: Job, session: Session, helpers: Sequence[Session]) -> None:
        super().__init__(job, session)
        self._helpers = helpers
        self._threads: list[Thread] = []
        self._begun = False

    def run(self) -> None:
        """Fetch the whole file. Raises Failure."""
        super().run()
        # Helpers may still wait for a server that is full, or hangs. They are not needed any more.
        self._job.end()
        self._join()
        if self._job.stopped is not None:
            raise self._job.stopped
        if not self._job.served:  # nothing was fetched: the whole file was here before
            self._job.note(answered_by(self._session))

    def _join(self) -> None:
        """Wake all helpers, and wait a moment for them to end."""
        for helper in self._helpers:
            helper.interrupt()
        join_briefly(self._threads)

    def end(self, error: BaseException) -> None:
        """Have all threads end because of ``error``."""
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
        """Ask for the version: with the first piece, or before the first piece if that may be here already."""
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
                    have = None  # the file is damaged, or the server has another version by now
                self._begin_with_a_piece(have)

    def _begin_with_a_piece(self, have: str | None) -> None:
        """Request the first piece, unless the server's etag is still ``have``."""
        job = self._job
        self._session.request(Request("GET", job.name, length=PIECE_BYTES, digest=DIGEST, unless_etag=have))
        reply = self._session.reply()
        self._learned(understand(self._session, reply))
        self._begin_job(unchanged=reply.status is Status.UNCHANGED)
        if not job.unchanged:
            first = job.take(wait=False)
            if first is None:
                raise AssertionError("every file has a first piece")
            self._requested.append(first)
            self._start_helpers()  # not earlier: a helper could have taken the first piece
            self._take(reply)

    def _begin_with_what_is_here(self, file: CompleteFile | None) -> None:
        """Ask which version the server has: ``file`` may be unchanged, or a part of this version may be here."""
        self._session.request(Request("STAT", self._job.name))
        self._learned(understand(self._session, self._session.reply()))
        self._begin_job(unchanged=file is not None and self._is_here(file))
        self._keep_heads()

    def _begin_job(self, *, unchanged: bool) -> None:
        self._job.unchanged = unchanged
        if not unchanged:
            self._job.begin(self.known.version)
        self._begun = True

    def _keep_heads(self) -> None:
        """Keep beginnings of pieces that agree with the server's. Call this before helpers request these pieces."""
        job, version = self._job, self.known.version
        heads = list(job.target.begun())
        found = digests(self._session, job.name, version, [(offset, length) for offset, length, _ in heads])
        for (offset, length, digest), right in zip(heads, found, strict=True):
            if digest == right:
                job.keep_head(offset, length, version)

    def _is_here(self, file: CompleteFile) -> bool:
        """Return whether ``file`` is the server's version, by its etag or else its content, and as the caller wishes.

        Note the digest of the whole in the job if a comparison has computed the digest.
        """
        wishes, version = self._job.wishes, self.known.version
        if file.size != version.size:
            return False
        if file.etag == version.etag and not wishes.by_content:
            return not wishes.expected or self._job.target.digest() == wishes.expected
        whole_digest = bool(wishes.whole_digest or wishes.expected) or file.size <= PIECE_BYTES
        agrees, digest = compare(self._session, self._job.name, version, file, whole_digest=whole_digest)
        if not (agrees and file.confirm(self.known)):
            return False
        self._job.digest = digest
        return True

    def _start_helpers(self) -> None:
        if not (self._threads or self._job.unchanged) and self._job.size - self._job.here > PIECE_BYTES:
            self._threads = [Thread(target=Puller(self._job, helper).help, daemon=True) for helper in self._helpers]
            for thread in self._threads:
                thread.start()

    def _settle_doubts(self) -> bool:
        """Compare pieces of other versions with this server's. Return whether some pieces must be fetched again."""
        job, version = self._job, self.known.version
        job.target.vouch_by(version)
        doubtful = list(job.target.doubtful())
        found = digests(self._session, job.name, version, [(offset, length) for offset, length, _ in doubtful])
        again = False
        for (offset, length, digest), right in zip(doubtful, found, strict=True):
            if digest == right:
                job.target.verified(offset, length, digest, version)
            else:
                job.fetch_again((offset, length))
                again = True
        return again
