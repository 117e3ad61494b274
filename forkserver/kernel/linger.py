"""Choose between reset and orderly close by SO_LINGER, socket(7). Runs in supervisor, master and child.

The supervisor sets ``RESET`` on the listening sockets, and every accepted connection inherits the option. So the kernel
resets the connection of a process that was killed, and frees its send queue at once. Without the option the queue would
outlive the process, and a kernel that kills children because memory ran out would gain little.

Danger: a close with ``RESET`` discards what the peer has not received. Every orderly close must call ``end_in_order``
before it shuts down or closes the socket; a process may be killed in between.
"""

from __future__ import annotations

import socket
import sys

# struct linger: on or off, and the seconds that a close waits.
RESET = (1).to_bytes(4, sys.byteorder) + bytes(4)
_IN_ORDER = bytes(8)


def end_in_order(connection: socket.socket) -> None:
    """Have the kernel send what is queued, even after the close. Raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _IN_ORDER)


def reset_at_close(connection: socket.socket) -> None:
    """Have the kernel discard at the close what is queued. Raises OSError."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
