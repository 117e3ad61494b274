"""Check the answers of a server about a file, and pass its content on to the target. Runs in the client."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.content import Known, Version
from forkserver.client.outcome import Exit, Failure, Served, Word, refusal, violation
from forkserver.client.remote.metadata import Metadata, read_metadata
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
"""By trailer: why a content did not end well, for people."""
PASSING = frozenset({Word.CONNECTION_LOST, Word.TIMEOUT, Word.NO_ANSWER, Word.DRAINING})
"""Failures after which the rest of a file is requested again. Once it was, UNREACHABLE is another such failure."""
_NOT_THE_SAME = frozenset({Status.CHANGED, Status.NOT_FOUND, Status.NOT_A_FILE, Status.BAD_RANGE})
"""Replies to the request for a further piece that mean another version of the file."""


class Changed(Failure):
    """The server no longer has the version of the file that was asked for. The content may still be the same."""

    def __init__(self, reason: str, served: Served) -> None:
        super().__init__(Exit.INTEGRITY, Word.CHANGED, reason, served)


def may_pass(session: Session, failure: Failure) -> bool:
    """Return whether a request that failed on ``session`` is to be made again.

    A server that cannot be reached counts only if the session had an answer before.
    """
    return failure.word in PASSING or (failure.word == Word.UNREACHABLE and session.served is not None)


def answered_by(session: Session) -> Served:
    """Return the process that gave the session's last answer."""
    if session.served is None:
        raise AssertionError("there has been an answer")
    return session.served


def described(session: Session, reply: Reply) -> Metadata:
    """Return the metadata of a file or directory from a reply to a GET or STAT. Raises Failure."""
    served = answered_by(session)
    if reply.status not in (Status.OK, Status.UNCHANGED):
        raise refusal(reply, served)
    try:
        return read_metadata(reply.fields.get("type", ""), reply.fields)
    except ProtocolError as error:
        raise violation(error.message, served) from error


def understand(session: Session, reply: Reply) -> Known:
    """Return version and mode of a file from the first reply to a GET or STAT. Raises Failure."""
    data = described(session, reply)
    served = answered_by(session)
    if data.kind == "dir":
        raise refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), served)
    if data.size is None or data.etag is None:
        raise violation("a file without an etag", served)
    return Known(Version(data.size, data.etag, data.mtime_ns, served.server), int(data.mode, 8))


def check_promise(session: Session, reply: Reply, etag: str, offset: int, length: int) -> Served:
    """Check that the requested piece follows, and return the process that sends it. Raises Failure.

    ``offset`` and ``length`` are in bytes.
    """
    served = answered_by(session)
    if reply.status in _NOT_THE_SAME:
        raise Changed("the file was modified or replaced while it was being fetched", served)
    if reply.status is not Status.OK:
        raise refusal(reply, served)
    promised = reply.fields
    if (promised.get("offset"), promised.get("length"), promised.get("etag")) != (str(offset), str(length), etag):
        raise violation("another part of the file was promised than was asked for", served)
    return served


def digest_in(reply: Reply, served: Served) -> str:
    """Return the SHA-256, in hexadecimal digits, that a reply to a ``STAT`` with ``digest=`` gives. Raises Failure."""
    kind, _, digits = reply.fields.get("digest", "").lower().partition(":")
    if kind != DIGEST:
        raise violation("a digest was asked for, and none came", served)
    return digits


def receive(session: Session, target: Target, offset: int, came: Callable[[int], None]) -> str:
    """Write a content to ``target`` from ``offset`` on, verify it, and return its digest in hexadecimal digits.

    ``came`` is called with the size in bytes of all that came at a time. Raises Failure.
    """
    hasher = sha256()
    while not isinstance(event := session.receive(memoryview), Trailer):
        hasher.update(event)
        target.write(offset, event)
        offset += len(event)
        came(len(event))
    trailer, served = event, answered_by(session)
    # Only a trailer after the whole content can be "ok".
    if trailer.end is End.CHANGED:
        raise Changed(ENDINGS[End.CHANGED], served)
    if trailer.end is not End.OK:
        raise Failure(Exit.INTEGRITY, Word(trailer.end.word), ENDINGS[trailer.end], served)
    digest = hasher.hexdigest()
    check_digest(digest_field(DIGEST, digest), trailer.fields.get("digest", ""), served)
    return digest


def check_digest(found: str, sent: str, served: Served) -> None:
    """Raise Failure if the digest of a content is not the digest that was ``sent``, or none was sent.

    Each digest has the form of the wire: its kind, a colon and hexadecimal digits. An empty ``sent`` is no digest.
    """
    if not sent:
        reason = f"the server sent no {DIGEST} with the content, although it was asked for; the content is not kept"
        raise Failure(Exit.INTEGRITY, Word.DIGEST_MISMATCH, reason, served)
    if sent.lower() != found:
        reason = f"the content arrived damaged: its {DIGEST} is not the one the server sent"
        raise Failure(Exit.INTEGRITY, Word.DIGEST_MISMATCH, reason, served)
