"""The room where data flows: one connection, from its first request to its close. Runs in a child.

A dialect only decodes requests and encodes replies; what the answers are stands in ``answer``.
"""

from __future__ import annotations

from forkserver.child import clock
from forkserver.child.answer import answer
from forkserver.child.endline import EndLine
from forkserver.child.reader import Dialect, RequestReader
from forkserver.child.wire import Wire, Woken
from forkserver.errors import ExitStatus, PeerGone, PeerTooSlow
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.protocol.messages import Identity, ProtocolError, Reply, Status, Trailer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.docroot import Docroot
    from forkserver.ipc.slots import Slot
    from forkserver.logline import Log
    from forkserver.settings import Settings


class ServerSession:
    """One connection of ``peer`` (an address for the log). ``serve`` runs it to its end and closes it.

    Every part of the child that answers gets the session as its first argument, and finds here what it may use.
    """

    def __init__(  # noqa: PLR0913 - all that a child was given, each once
        self,
        wire: Wire,
        *,
        peer: str,
        settings: Settings,
        docroot: Docroot,
        slot: Slot,
        identity: Identity,
        log: Log,
    ) -> None:
        self.wire = wire
        self.docroot = docroot
        self.slot = slot
        self.end_line = EndLine(log, identity, peer, slot)
        self.keep = True
        self.midway = False
        """The last answer was a part of a file, and not its last."""
        self.settings = settings
        self._identity = identity
        self._reader = RequestReader(wire, settings)

    def serve(self) -> ExitStatus:
        """Answer every request; returns how the connection ended."""
        status = ExitStatus.DONE
        try:
            while self.keep:
                self.wire.heed(DRAINING)
                self._turn()
        except PeerTooSlow:
            status = ExitStatus.PEER_TOO_SLOW
        except PeerGone:
            status = ExitStatus.PEER_GONE
        except Woken:
            status = ExitStatus.RETIRED
        self.end_line.close(status)
        # A peer that is gone, or took nothing for too long, will not take the rest now.
        self.wire.close(self.pace() if status in (ExitStatus.DONE, ExitStatus.RETIRED) else None)
        return status

    def reply(self, status: Status, fields: dict[str, str] | None = None, message: str = "") -> None:
        """Send a reply line; after some statuses the connection is not kept."""
        first, *further = self.encode_reply(status, fields or {}, message)
        pace = self.pace()
        self.wire.send(bytearray(first), pace, DRAINING)
        for piece in further:
            self.wire.let_read(pace.deadline())
            self.wire.send(bytearray(piece), pace, DRAINING)

    def encode_reply(self, status: Status, fields: dict[str, str], message: str = "") -> list[bytes]:
        """What ``reply`` sends, for who has more to send with it."""
        self.end_line.replied(status)
        self.keep = self.keep and not status.closing
        return self.dialect.reply(Reply(status, {**self._identity.fields, **fields}, message))

    def end_content(self, trailer: Trailer, pace: clock.Pace) -> None:
        """Send the trailer. Not even a stop cuts this line short: it is what tells the peer why."""
        self.wire.send(bytearray(self.encode_trailer(trailer)), pace, STOPPING)

    def encode_trailer(self, trailer: Trailer) -> bytes:
        """What ``end_content`` sends."""
        self.end_line.outcome = trailer.end.word
        return self.dialect.trailer(trailer)

    @property
    def dialect(self) -> Dialect:
        """What the peer speaks."""
        return self._reader.dialect

    def pace(self) -> clock.Pace:
        """How fast the peer must take what is sent from now on."""
        return clock.Pace(self.settings.stall_s, self.settings.min_rate_bytes)

    def _turn(self) -> None:
        try:
            request = self._reader.next_request(midway=self.midway)
        except ProtocolError as error:
            self.midway = False
            self.end_line.settle()
            self.reply(error.status, message=error.message)
        else:
            if request is None:
                self.keep = False
                return
            self.end_line.begin(request)
            self.midway = False
            self.wire.hold = self.dialect.has_request
            answer(self, request)
            self.keep = self.keep and not self.dialect.unframed
        self.slot.count_request()
        self.end_line.end(midway=self.midway)
