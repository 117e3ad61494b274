"""Compare what is here with what a server has, by digests: nothing is sent but these. Runs at the user's."""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.outcome import Exit
from forkserver.client.remote.answers import DIGEST, NoDigests, answered_by, check_promise, digest_in
from forkserver.protocol.messages import Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.content import Version
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session

_WINDOW = 16
"""Requests on the way, each for the digest of a piece of 4 MiB: what the server may do in vain if the first differs."""


class Moved(Exception):
    """The session turned to another server: what was learned from the one before does not hold."""


def digests(session: Session, name: bytes, version: Version, parts: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Yield the SHA-256, in hexadecimal digits, that the server gives of each part, which is an offset and a length.

    Many requests are on the way at a time: who ends before the last part must ``abandon`` the session. Raises Failure:
    Changed where the file is no longer ``version``, NoDigests of an older server; and Moved.
    """
    asked: deque[tuple[int, int]] = deque()
    for offset, length in parts:
        session.request(Request("STAT", name, offset=offset, length=length, digest=DIGEST, if_etag=version.etag))
        asked.append((offset, length))
        if len(asked) >= _WINDOW:
            yield _next_digest(session, version, *asked.popleft())
    while asked:
        yield _next_digest(session, version, *asked.popleft())


def compare(
    session: Session, name: bytes, version: Version, file: CompleteFile, *, whole_digest: bool
) -> tuple[bool, str | None]:
    """Return whether ``file``, as long as ``version``, has the content that the server gives the digests of.

    Also returns the digest of the whole, in hexadecimal digits: where the contents agree, and with ``whole_digest``.
    Ends at the first piece that differs. An older server, which gives no digests, agrees with nothing. Raises as
    ``digests``.
    """
    whole = sha256() if whole_digest else None
    try:
        found = digests(session, name, version, file.parts())
        for (offset, length), digest in zip(file.parts(), found, strict=True):
            piece = file.read(offset, length)
            if len(piece) != length or sha256(piece).hexdigest() != digest:
                session.abandon()
                return False, None
            if whole is not None:
                whole.update(piece)
    except NoDigests:
        session.abandon()
        return False, None
    return True, whole.hexdigest() if whole is not None else None


def _next_digest(session: Session, version: Version, offset: int, length: int) -> str:
    reply = session.reply()
    if str(session.address) != version.server:
        raise Moved
    if reply.status is Status.BAD_REQUEST:
        raise NoDigests(Exit.REFUSED, reply.status.word, "the server gives no digests of parts", answered_by(session))
    return digest_in(reply, check_promise(session, reply, version.etag, offset, length))
