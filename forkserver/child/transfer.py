"""Send a content in bounded pieces, compute its digest if the peer wants one, and make the trailer. Runs in a child.

Without a digest the bytes go from the page cache to the socket without passing through the process (sendfile(2)). A
write in place to bytes that are already queued is not noticed then. With a digest the bytes are read, hashed, and sent
from the same memory: what was hashed is what is sent. If the file changes meanwhile the trailer says ``changed``.
"""

from __future__ import annotations

import hashlib
import os

from forkserver.child.clock import Pace
from forkserver.child.docroot import Found
from forkserver.child.peersocket import PeerSocket, PhaseChanged
from forkserver.ipc.slots import DRAINING, STOPPING, Slot
from forkserver.protocol.messages import End, Trailer, digest_field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Hash = hashlib._Hash | hashlib.blake2b  # noqa: SLF001 - the name that typeshed gives the type

CHUNK_BYTES = 1 << 20
"""Most bytes of one sendfile(2): the child checks the phase between two of them."""

BLOCK_BYTES = 1 << 18
"""Most bytes read and hashed at a time: they stay in the processor's second-level cache until they are sent."""

SMALL_BYTES = 16384
"""Up to this length a content is sent in one call, together with its reply and its trailer."""

_DIGESTS: dict[str, Callable[..., Hash]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b}
_MESSAGES = {
    End.CHANGED: "the file was modified or replaced while it was being sent",
    End.TRUNCATED: "the file became shorter while it was being sent",
    End.READ_ERROR: "the file could not be read to its end",
    End.DRAINING: "the server is being stopped",
}


def digest_of(found: Found, offset: int, length: int, digest: str) -> str | None:
    """Return the ``digest`` of ``length`` bytes from ``offset``, in the form of a trailer. Raises OSError.

    None: the file is shorter than that.
    """
    block = memoryview(bytearray(min(length, BLOCK_BYTES)))
    hasher = _DIGESTS[digest]()
    end = offset + length
    while offset < end:
        size_bytes = os.preadv(found.fd, [block[: end - offset]], offset)
        if not size_bytes:
            return None
        hasher.update(block[:size_bytes])
        offset += size_bytes
    return digest_field(digest, hasher.hexdigest())


def digest_of_bytes(content: bytes, digest: str) -> str:
    """Return the ``digest`` of a content, in the form of a trailer."""
    return digest_field(digest, _DIGESTS[digest](content).hexdigest())


def early(end: End, sent_bytes: int) -> Trailer:
    """Return the trailer of a content that was broken off after ``sent_bytes``."""
    return Trailer(end, {"sent": str(sent_bytes)}, _MESSAGES[end])


class Transfer:
    """Sending of one content, with its ``digest`` if that is not None. ``sent_bytes`` is how much was sent so far."""

    def __init__(self, peer_socket: PeerSocket, slot: Slot, pace: Pace, digest: str | None) -> None:
        self._peer_socket = peer_socket
        self._slot = slot
        self._pace = pace
        self._digest = digest or ""
        self._hash = _DIGESTS[digest]() if digest else None
        self.sent_bytes = 0

    def send(self, found: Found, offset: int, length: int) -> Trailer | None:
        """Send ``length`` bytes of ``found`` from ``offset``.

        Return None where all were sent: then ``seal`` makes the trailer. Return the early trailer where the content was
        broken off.

        Raises PeerGone or PeerTooSlow.
        """
        self._block = memoryview(bytearray(min(length, BLOCK_BYTES) if self._hash else 0))
        send_piece = self._send_hashed if self._hash else self._send_straight
        try:
            while self.sent_bytes < length:
                # Waits check the phase, but nothing waits as long as the peer takes the bytes as fast as they are read.
                self._peer_socket.check_phase(DRAINING)
                if not send_piece(found.fd, offset + self.sent_bytes, length - self.sent_bytes):
                    return early(End.TRUNCATED, self.sent_bytes)
        except PhaseChanged:
            return early(End.DRAINING, self.sent_bytes)
        except OSError:
            return early(End.READ_ERROR, self.sent_bytes)
        return None

    def read(self, found: Found, offset: int, length: int) -> tuple[bytes, Trailer | None]:
        """Read a small content for ``send_at_once``. Return the content, and the trailer that ``send`` would return."""
        try:
            content = os.pread(found.fd, length, offset)
        except OSError:
            return b"", early(End.READ_ERROR, 0)
        if self._hash:
            self._hash.update(content)
        return content, early(End.TRUNCATED, len(content)) if len(content) < length else None

    def send_at_once(self, head: bytes, content: bytes, trailer: bytes) -> None:
        """Send reply line, content and trailer. Raises PeerGone or PeerTooSlow.

        A stop does not cut them off: together they are hardly longer than the trailer alone, which is never cut off.
        """
        block = bytearray(b"".join((head, content, trailer)))
        before_content = len(block) - len(head)
        try:
            self._peer_socket.send(block, self._pace, STOPPING)
        finally:
            sent_bytes = before_content - len(block)
            self.sent_bytes = max(0, min(sent_bytes, len(content)))
            self._slot.count_sent(self.sent_bytes)

    def seal(self, *, unchanged: bool) -> Trailer:
        """Return the trailer of a content that was sent whole. ``unchanged``: the file is what it was when opened."""
        if not unchanged:
            return Trailer(End.CHANGED, {}, _MESSAGES[End.CHANGED])
        if not self._hash:
            return Trailer(End.OK, {})
        return Trailer(End.OK, {"digest": digest_field(self._digest, self._hash.hexdigest())})

    def _send_straight(self, fd: int, position: int, left_bytes: int) -> bool:
        """Send a piece of the file. Return False at the end of the file."""
        sent = self._peer_socket.send_file(fd, position, min(left_bytes, CHUNK_BYTES), self._pace, DRAINING)
        self._count(sent)
        return sent > 0

    def _send_hashed(self, fd: int, position: int, left_bytes: int) -> bool:
        """Hash and send a piece of the file. Return False at the end of the file."""
        piece = self._block[: os.preadv(fd, [self._block[:left_bytes]], position)]
        if self._hash is None or not piece:
            return False
        self._hash.update(piece)
        while piece:
            sent = self._peer_socket.send_part(piece, self._pace, DRAINING)
            self._count(sent)
            piece = piece[sent:]
        return True

    def _count(self, sent_bytes: int) -> None:
        self.sent_bytes += sent_bytes
        self._slot.count_sent(sent_bytes)
