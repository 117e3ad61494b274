"""Compare a local file with that of a server by digests: no content is sent. Runs in the client."""

from __future__ import annotations

from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.outcome import Exit, Word
from forkserver.client.remote.answers import DIGEST, NoDigests, answered_by, check_promise, digest_in
from forkserver.protocol.messages import Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.content import Version
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session

_WINDOW = 16
"""Most requests on the way, each for the digest of a piece of 4 MiB.

The server works in vain on as many pieces if the first differs.
"""


class Moved(Exception):
    """The session turned to another server. What was learned from the one before does not hold for this server."""


def digests(session: Session, name: bytes, version: Version, parts: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Yield the server's SHA-256, in hexadecimal digits, of each part. A part is an offset and a length.

    Many requests are on the way at a time, so a caller that ends before the last part must ``abandon`` the session.
    Raises Failure, Changed where the file is no longer ``version``, NoDigests with an older server, and Moved.
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
    """Return whether ``file`` has the content of the server's file, and the digest of the whole or None.

    ``file`` must be as long as ``version``. The digest, in hexadecimal digits, is returned with ``whole_digest`` where
    the contents agree. The comparison ends at the first piece that differs. With an older server, which gives no
    digests, it always fails. Raises as ``digests``.
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
        raise NoDigests(Exit.REFUSED, Word.BAD_REQUEST, "the server gives no digests of parts", answered_by(session))
    return digest_in(reply, check_promise(session, reply, version.etag, offset, length))
