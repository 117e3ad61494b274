"""Short replies to connections that get no child, and their close. Runs in the master; writes to a peer, never reads.

Closing a socket that holds unread bytes resets it, and the reset can overtake the reply (RFC 1122 4.2.2.13). So
a refused connection is shut down for writing and kept a moment for its peer to read and close; of too many the oldest
goes first.
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
    """``identity`` is the master's."""

    def __init__(self, identity: Identity) -> None:
        self._replies = {
            status: encode_reply(Reply(status, identity.fields, message)) for status, message in MESSAGES.items()
        }
        self._kept: list[tuple[float, socket.socket]] = []

    def refuse(self, connection: socket.socket, status: Status, now: float) -> None:
        """Tell the peer, and take the connection over."""
        try:
            connection.setblocking(False)
            connection.send(self._replies[status])
            linger.end_in_order(connection)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()  # gone already
            return
        self._kept.append((now + _KEEP_S, connection))
        if len(self._kept) > _MAX_KEPT:
            self._kept.pop(0)[1].close()

    def expire(self, now: float) -> None:
        """Close what was kept long enough."""
        while self._kept and self._kept[0][0] <= now:
            self._kept.pop(0)[1].close()

    @property
    def next_moment(self) -> float | None:
        """When ``expire`` has something to do."""
        return self._kept[0][0] if self._kept else None
