"""Replies on their way: encode them in the peer's dialect, send them at the peer's pace. Runs in a child."""

from __future__ import annotations

from forkserver.child import clock
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.protocol.messages import Identity, Reply, Status, Trailer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.endline import EndLine
    from forkserver.child.peersocket import PeerSocket
    from forkserver.child.reader import Dialect, RequestReader
    from forkserver.settings import Settings


class ReplySender:
    """Send reply lines and trailers, and note both in the end line.

    ``dialect`` is the dialect that the reader has found the peer to speak.
    """

    __slots__ = ("_identity", "_reader", "_settings", "end_line", "peer_socket")

    def __init__(
        self, peer_socket: PeerSocket, reader: RequestReader, end_line: EndLine, identity: Identity, settings: Settings
    ) -> None:
        self.peer_socket = peer_socket
        self.end_line = end_line
        self._reader = reader
        self._identity = identity
        self._settings = settings

    @property
    def dialect(self) -> Dialect:
        """Dialect of the peer."""
        return self._reader.dialect

    def pace(self) -> clock.Pace:
        """Return the pace at which the peer must take what is sent from now on."""
        return clock.Pace(self._settings.stall_s, self._settings.min_rate_bytes)

    def reply(self, status: Status, fields: dict[str, str] | None = None, message: str = "") -> None:
        """Send a reply line. Raises PeerGone, PeerTooSlow and PhaseChanged."""
        first, *further = self.encode_reply(status, fields or {}, message)
        pace = self.pace()
        self.peer_socket.send(bytearray(first), pace, DRAINING)
        for piece in further:
            self.peer_socket.let_read(pace)
            self.peer_socket.send(bytearray(piece), pace, DRAINING)

    def encode_reply(self, status: Status, fields: dict[str, str], message: str = "") -> list[bytes]:
        """Return the bytes that ``reply`` sends, for a caller that sends more along with them."""
        self.end_line.replied(status)
        return self.dialect.reply(Reply(status, {**self._identity.fields, **fields}, message))

    def end_content(self, trailer: Trailer, pace: clock.Pace) -> None:
        """Send the trailer. Even a stop does not cut the trailer off, because the trailer tells the peer the reason."""
        self.peer_socket.send(bytearray(self.encode_trailer(trailer)), pace, STOPPING)

    def encode_trailer(self, trailer: Trailer) -> bytes:
        """Return the bytes that ``end_content`` sends."""
        self.end_line.outcome = trailer.end.word
        return self.dialect.trailer(trailer)
