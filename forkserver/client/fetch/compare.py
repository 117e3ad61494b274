"""Compare a local file with the server's file by digests, without fetching content. Runs in the client."""

from __future__ import annotations

import itertools
from collections import deque
from hashlib import sha256
from typing import TYPE_CHECKING

from forkserver.client.remote.answers import DIGEST, check_promise, digest_in
from forkserver.protocol.messages import Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.content import Version
    from forkserver.client.local.complete import CompleteFile
    from forkserver.client.remote.session import Session

_WINDOW = 16
"""Most requests on the way, each for the digest of a piece of 4 MiB.

If the first piece differs, the server reads and hashes up to this many pieces for nothing.
"""


class Moved(Exception):
    """The session has turned to another server. The answers of the previous server do not hold for this server."""


def digests(session: Session, name: bytes, version: Version, parts: Iterable[tuple[int, int]]) -> Iterator[str | None]:
    """Yield the server's SHA-256, in hexadecimal digits, of each part. A part is an offset and a length in bytes.

    An older server gives no digests: yields None for each part then. Many requests are on the way at a time, so a
    caller that ends before the last part must ``abandon`` the session. Raises Failure, Changed if the server no longer
    has ``version``, and Moved.
    """
    waiting = iter(parts)
    asked: deque[tuple[int, int]] = deque()
    while True:
        for offset, length in itertools.islice(waiting, _WINDOW - len(asked)):
            session.request(Request("STAT", name, offset=offset, length=length, digest=DIGEST, if_etag=version.etag))
            asked.append((offset, length))
        if not asked:
            return
        reply = session.reply()
        if str(session.address) != version.server:
            raise Moved
        if reply.status is Status.BAD_REQUEST:  # of an older server
            session.abandon()
            yield from (None for _ in itertools.chain(asked, waiting))
            return
        yield digest_in(reply, check_promise(session, reply, version.etag, *asked.popleft()))


def compare(
    session: Session, name: bytes, version: Version, file: CompleteFile, *, whole_digest: bool
) -> tuple[bool, str | None]:
    """Return whether ``file`` has the content of the server's file, and the digest of the whole file or None.

    ``file`` must be as long as ``version``. The digest, in hexadecimal digits, is computed if ``whole_digest`` is true
    and the contents agree. The comparison ends at the first piece that differs. The result is False with an older
    server, which gives no digests. Raises as ``digests``.
    """
    whole = sha256() if whole_digest else None
    found = digests(session, name, version, file.parts())
    for (offset, length), digest in zip(file.parts(), found, strict=True):
        piece = file.read(offset, length)
        if len(piece) != length or sha256(piece).hexdigest() != digest:
            session.abandon()
            return False, None
        if whole is not None:
            whole.update(piece)
    return True, whole.hexdigest() if whole is not None else None
