"""Read the length of a backlog, by the option TCP_INFO of tcp(7). Runs in the master."""

from __future__ import annotations

import socket
import sys

# In struct tcp_info, linux/tcp.h. The kernel reports the backlog of a listening socket there, as ss(8) does in Recv-Q.
_TCPI_UNACKED = slice(24, 28)


def count_waiting(listener: socket.socket) -> int:
    """Return the number of connections that wait to be accepted. Raises OSError."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCPI_UNACKED.stop)
    return int.from_bytes(info[_TCPI_UNACKED], sys.byteorder)
