"""Fetch one file: ask, receive, verify, and only then let it take its name. Runs at the user's."""

from __future__ import annotations

import time
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client import metadata
from forkserver.client.connection import violation
from forkserver.client.display import count
from forkserver.client.outcome import Exit, Failure, Served, refusal
from forkserver.protocol.messages import End, ProtocolError, Reply, Request, Status, Trailer
from forkserver.protocol.native import decode_number

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Receipt(NamedTuple):
    """A file fetched and verified. ``digest`` is ``sha256:`` and hexadecimal digits, ``seconds`` what it took."""

    served: Served
    size: int
    digest: str
    seconds: float


def fetch(session: Session, name: bytes, target: Target, progress: Callable[[int, int], None]) -> Receipt:
    """Fetch the file ``name`` into ``target``; ``progress`` is called with the bytes received and promised.

    Raises Failure; then ``target`` has not been told to finish.
    """
    started = time.monotonic()
    reply = session.ask(Request("GET", name, digest=DIGEST))
    served = answered_by(session)
    if reply.status is not Status.OK:
        raise refusal(reply, served)
    try:
        size, mtime_ns = _promise(reply)
    except ProtocolError as error:
        raise violation(error, served) from error
    target.begin(size)
    digest, trailer = _receive(session, size, target, progress)
    _verify(digest, trailer, size, served)
    target.finish(mtime_ns)
    return Receipt(served, size, digest, time.monotonic() - started)


def answered_by(session: Session) -> Served:
    """Who gave the session's last answer."""
    if session.served is None:
        raise AssertionError("there has been an answer")
    return session.served


def _promise(reply: Reply) -> tuple[int, int]:
    """Size in bytes and modification time, nanoseconds since 1970, of what follows. Raises ProtocolError."""
    data = metadata.read(reply.fields.get("type", ""), reply.fields)
    length = decode_number(reply.fields.get("length", ""))
    if data.size is None or length != data.size or decode_number(reply.fields.get("offset", "")):
        raise ProtocolError(Status.BAD_REQUEST, "not all of the file was promised")
    return data.size, data.mtime_ns


def _receive(session: Session, size: int, target: Target, progress: Callable[[int, int], None]) -> tuple[str, Trailer]:
    """Pass the content on; gives its digest, and what the server says about it."""
    hasher = sha256()
    while True:
        try:
            piece = session.receive(memoryview)
        except Failure as failure:
            if failure.exit_status is Exit.UNREACHABLE:
                failure.reason += f" after {count(session.received_bytes)} of {count(size)} bytes"
            raise
        if isinstance(piece, Trailer):
            return f"{DIGEST}:{hasher.hexdigest()}", piece
        hasher.update(piece)
        target.write(piece)
        progress(session.received_bytes, size)


def _verify(digest: str, trailer: Trailer, size: int, served: Served) -> None:
    # Only a trailer that stands after all of the content can be "ok".
    if trailer.end is not End.OK:
        reason = ENDINGS[trailer.end] + _how_far(trailer, size)
        raise Failure(Exit.INTEGRITY, trailer.end.word, reason, served)
    if trailer.fields.get("digest", "").lower() != digest:
        reason = f"the content arrived damaged: its {DIGEST} is not the one the server sent"
        raise Failure(Exit.INTEGRITY, "digest-mismatch", reason, served)


def _how_far(trailer: Trailer, size: int) -> str:
    """How much an early trailer says was sent; nothing for one that stands after all of the content."""
    try:
        sent = decode_number(trailer.fields.get("sent", ""))
    except ProtocolError:
        return ""
    return f" after {count(sent)} of {count(size)} bytes" if sent < size else ""
