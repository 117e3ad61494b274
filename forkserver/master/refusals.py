"""Refuse connections that get no child: reply, then close. Runs in the master; writes to a peer, never reads.

Closing a socket that holds unread bytes resets the connection, and the reset can overtake the reply (RFC 1122
4.2.2.13). So a refused connection is shut down for writing and kept for two seconds, in which its peer can read the
reply and close. If too many are kept, the oldest is closed first.
"""

from __future__ import annotations

import socket

from forkserver.kernel import linger
from forkserver.protocol.messages import Identity, Reply, Status
from forkserver.protocol.native import encode_reply

_KEEP_S = 2.0
_MAX_KEPT = 64

MESSAGES = {
    Status.TOO_MANY_CONNECTIONS: "you have as many connections as one peer may have; try again later",
    Status.BUSY: "no process can be made for you just now; try again later",
}


class Refusals:
    """Refused connections. ``identity`` is the master's."""

    def __init__(self, identity: Identity) -> None:
        self._replies = {
            status: encode_reply(Reply(status, identity.fields, message)) for status, message in MESSAGES.items()
        }
        self._kept: list[tuple[float, socket.socket]] = []

    def refuse(self, connection: socket.socket, status: Status, now: float) -> None:
        """Send the reply for ``status``. The connection is closed here, by ``expire`` at the latest."""
        try:
            connection.setblocking(False)
            connection.send(self._replies[status])
            linger.end_in_order(connection)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()  # the peer is gone
            return
        self._kept.append((now + _KEEP_S, connection))
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(0)[1].close()

    def expire(self, now: float) -> None:
        """Close the connections that were kept long enough."""
        while self._kept and self._kept[0][0] <= now:
            self._kept.pop(0)[1].close()

    @property
    def expire_at(self) -> float:
        """When ``expire`` has something to do; infinity: never."""
        return self._kept[0][0] if self._kept else float("inf")
