"""One connection, from its first request to its close. Runs in a child.

The session reads a request, lets the ``Answerer`` answer the request, and decides from the ``Answered`` and the dialect
whether the connection goes on. A dialect decodes requests, encodes replies, and tells whether replies have frames.
"""

from __future__ import annotations

from forkserver.child.answer import Answered, Answerer
from forkserver.child.endline import EndLine
from forkserver.child.peersocket import PeerSocket, PhaseChanged
from forkserver.child.reader import RequestReader
from forkserver.child.replies import ReplySender
from forkserver.errors import ExitStatus, PeerGone, PeerTooSlow
from forkserver.ipc.slots import DRAINING, SERVING
from forkserver.protocol.messages import Identity, ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.docroot import Docroot
    from forkserver.ipc.slots import Slot
    from forkserver.logline import Log
    from forkserver.settings import Settings


class ServerSession:
    """One connection of ``peer``, which is an address for the log."""

    __slots__ = ("_answerer", "_end_line", "_midway", "_peer_socket", "_reader", "_sender", "_slot")

    def __init__(  # noqa: PLR0913 - all that a child was given, each once
        self,
        peer_socket: PeerSocket,
        *,
        peer: str,
        settings: Settings,
        docroot: Docroot,
        slot: Slot,
        identity: Identity,
        log: Log,
    ) -> None:
        self._peer_socket = peer_socket
        self._slot = slot
        self._end_line = EndLine(log, identity, peer, slot)
        self._reader = RequestReader(peer_socket, settings)
        self._sender = ReplySender(peer_socket, self._reader, self._end_line, identity, settings)
        self._answerer = Answerer(self._sender, docroot, slot, settings)
        self._midway = False
        """The last answer was a part of a file, and more of the file follows that part."""

    def serve(self) -> ExitStatus:
        """Answer every request, close the connection, and return how the connection ended."""
        status = ExitStatus.DONE
        try:
            self._peer_socket.check_phase(DRAINING)
            while self._serve_one():
                self._peer_socket.check_phase(DRAINING)
        except PeerTooSlow:
            status = ExitStatus.PEER_TOO_SLOW
        except PeerGone:
            status = ExitStatus.PEER_GONE
        except PhaseChanged:
            status = ExitStatus.RETIRED
        # A peer that is gone, or took nothing for too long, will not take the rest now.
        in_order = status in (ExitStatus.DONE, ExitStatus.RETIRED)
        try:
            self._peer_socket.close(self._sender.pace() if in_order else None)
            if in_order and self._end_line.untaken:
                self._end_line.settle()
        except PeerTooSlow:
            status = ExitStatus.PEER_TOO_SLOW
        except PeerGone:
            status = ExitStatus.PEER_GONE
        except PhaseChanged:
            status = ExitStatus.RETIRED
        self._end_line.close(status)
        return status

    def _serve_one(self) -> bool:
        """Answer one request. Return whether the connection goes on."""
        if self._end_line.untaken:
            self._await_taken(SERVING, or_input=True)
        try:
            request = self._reader.next_request(midway=self._midway)
        except ProtocolError as error:
            # Bytes that are no request do not show that the peer has taken the answer before.
            if self._end_line.untaken:
                self._await_taken(DRAINING, or_input=False)
                self._peer_socket.check_phase(DRAINING)
            self._end_line.settle()
            self._sender.reply(error.status, message=error.message)
            answered = Answered(error.status)
        else:
            if request is None:
                return False
            self._end_line.begin(request)
            self._peer_socket.hold = self._reader.dialect.has_request
            answered = self._answerer.answer(request)
        self._midway = answered.midway
        self._slot.count_request()
        # The next request of a peer that pipelines is here: the line would be kept back for no time.
        untaken = not self._reader.dialect.has_request and self._peer_socket.untaken
        self._end_line.end(midway=answered.midway, untaken=untaken)
        return not (answered.cut or answered.status.closing or self._reader.dialect.unframed)

    def _await_taken(self, tolerated: int, *, or_input: bool) -> None:
        """Wait as ``PeerSocket.await_taken`` does; write the line of the last answer if the peer has taken it."""
        self._peer_socket.await_taken(self._sender.pace(), tolerated, or_input=or_input)
        if not self._peer_socket.untaken:
            self._end_line.settle()
