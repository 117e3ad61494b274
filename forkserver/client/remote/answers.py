"""What a server's answers about a file mean, and its content on the way to where it goes. Runs at the user's."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.content import Known, Version
from forkserver.client.outcome import Exit, Failure, Served, Word, refusal, violation
from forkserver.client.remote import metadata
from forkserver.protocol.messages import End, ProtocolError, Reply, Status, Trailer, digest_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.content import Target
    from forkserver.client.remote.session import Session

DIGEST = "sha256"
ENDINGS = {
    End.CHANGED: "the file was modified while it was being sent",
    End.TRUNCATED: "the file became shorter while it was being sent",
    End.READ_ERROR: "the server could not read the file to the end",
    End.DRAINING: "the server is being stopped",
}
"""What a trailer other than ``ok`` means to people."""
PASSING = frozenset({Word.CONNECTION_LOST, Word.TIMEOUT, Word.NO_ANSWER, Word.DRAINING})
"""Failures in the middle of a file after which the rest is asked for again; then also a server that is not there."""
_NOT_THE_SAME = frozenset({Status.CHANGED, Status.NOT_FOUND, Status.NOT_A_FILE, Status.BAD_RANGE})
"""To a request for a further piece."""


class Changed(Failure):
    """The server no longer has the version of the file that was asked for. The content may still be the same."""

    def __init__(self, reason: str, served: Served) -> None:
        super().__init__(Exit.INTEGRITY, Word.CHANGED, reason, served)


def may_pass(session: Session, failure: Failure) -> bool:
    """Whether what was asked of ``session``, which may have answered before, is to be asked again."""
    return failure.word in PASSING or (failure.word == Word.UNREACHABLE and session.served is not None)


def answered_by(session: Session) -> Served:
    """Who gave the session's last answer."""
    if session.served is None:
        raise AssertionError("there has been an answer")
    return session.served


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
    return Known(Version(data.size, data.etag, data.mtime_ns, served.server), int(data.mode, 8))


def check_promise(session: Session, reply: Reply, etag: str, offset: int, length: int) -> Served:
    """Whether the piece follows that was asked for; gives who sends it. Raises Failure."""
    served = answered_by(session)
    if reply.status in _NOT_THE_SAME:
        raise Changed("the file was modified or replaced while it was being fetched", served)
    if reply.status is not Status.OK:
        raise refusal(reply, served)
    promised = reply.fields
    if (promised.get("offset"), promised.get("length"), promised.get("etag")) != (str(offset), str(length), etag):
        error = ProtocolError(Status.BAD_REQUEST, "another part of the file was promised than was asked for")
        raise violation(error, served)
    return served


def digest_in(reply: Reply, served: Served) -> str:
    """Return the SHA-256, in hexadecimal digits, that a reply to a ``STAT`` with ``digest=`` gives. Raises Failure."""
    kind, _, digits = reply.fields.get("digest", "").lower().partition(":")
    if kind != DIGEST:
        raise violation(ProtocolError(Status.BAD_REQUEST, "a digest was asked for, and none came"), served)
    return digits


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
    verify(digest, part, answered_by(session))
    return digest


def verify(digest: str, trailer: Trailer, served: Served) -> None:
    """Whether a content that came to its end, with this digest, is the one that was sent. Raises Failure."""
    # Only a trailer that stands after all of the content can be "ok".
    if trailer.end is End.CHANGED:
        raise Changed(ENDINGS[End.CHANGED], served)
    if trailer.end is not End.OK:
        raise Failure(Exit.INTEGRITY, Word(trailer.end.word), ENDINGS[trailer.end], served)
    check_digest(digest_field(DIGEST, digest), trailer.fields.get("digest", ""), served)


def check_digest(found: str, sent: str, served: Served) -> None:
    """Raise Failure where a content arrived with another digest than was ``sent``, or without a digest.

    Each digest has the name of its kind before it.
    """
    if not sent:
        reason = f"the server sent no {DIGEST} with the content, although it was asked for; the content is not kept"
        raise Failure(Exit.INTEGRITY, Word.DIGEST_MISMATCH, reason, served)
    if sent.lower() != found:
        reason = f"the content arrived damaged: its {DIGEST} is not the one the server sent"
        raise Failure(Exit.INTEGRITY, Word.DIGEST_MISMATCH, reason, served)
