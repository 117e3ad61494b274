"""Read requests from a connection: find the dialect, wait no longer than allowed. Runs in a child."""

from __future__ import annotations

from forkserver.child import clock
from forkserver.child.peersocket import RECEIVE_BYTES, PeerSocket
from forkserver.errors import PeerTooSlow
from forkserver.ipc.slots import DRAINING, SERVING
from forkserver.protocol.bare import MAX_NAME_BYTES, BareDialect, is_bare
from forkserver.protocol.framing import RequestStream
from forkserver.protocol.messages import ProtocolError, Request, Status
from forkserver.settings import Settings

_MANY_BYTES = 16384
"""Size of a read from a peer that sends many requests at once."""

Dialect = RequestStream | BareDialect


class RequestReader:
    """Requests of one connection, in order. ``dialect`` is native until the first bytes show a bare name."""

    def __init__(self, peer_socket: PeerSocket, settings: Settings) -> None:
        self._peer_socket = peer_socket
        self._settings = settings
        self._first = True
        self._ended = False
        # A bare name has no end mark: the first read must return all of it.
        self._receive_bytes = 2 * MAX_NAME_BYTES if settings.bare else RECEIVE_BYTES
        self.dialect: Dialect = RequestStream()

    def next_request(self, *, midway: bool) -> Request | None:
        """Return the next request; None when no more will come, or none came for ``idle_s``.

        ``midway``: the last answer was a part of a file, and the peer will ask for the rest. Raises ProtocolError where
        an error reply is due, also for a first request or a begun request that is not complete in time; PeerGone;
        PhaseChanged.
        """
        return self.dialect.next_request() or self._await_request(midway=midway)

    def _await_request(self, *, midway: bool) -> Request | None:
        idle = not (self._first or self.dialect.started)
        deadline = clock.now() + (self._settings.idle_s if idle else self._settings.request_s)
        while (request := self.dialect.next_request()) is None:
            if self._ended:
                self.dialect.end_of_file()
                return None
            try:
                # A drain ends an idle connection at once. It waits for the first request, for a request that has
                # begun, and for the rest of a file that is fetched part by part.
                tolerated = SERVING if idle and not midway else DRAINING
                self._peer_socket.check_phase(tolerated)  # ``receive`` never waits for a peer that keeps sending
                data = self._peer_socket.receive(deadline, tolerated, self._receive_bytes)
            except PeerTooSlow:
                if idle:
                    return None
                raise ProtocolError(Status.TOO_SLOW, "no complete request came within the time allowed") from None
            self._take(data)
            if idle:
                idle = False
                deadline = clock.now() + self._settings.request_s
        self._first = False
        return request

    def _take(self, data: bytes) -> None:
        if not data:
            self._ended = True
        elif self._first and not self.dialect.started and self._settings.bare and is_bare(data):
            self.dialect = BareDialect()
        if len(data) == self._receive_bytes:
            self._receive_bytes = _MANY_BYTES
        self.dialect.feed(data)
