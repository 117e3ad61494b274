"""What supervisor and master say to each other over their SOCK_SEQPACKET channel. Runs in both.

The supervisor speaks first: the encoded settings, with the listening sockets attached (SCM_RIGHTS, unix(7)). From
then on each packet is one word. End-of-file means that the other side is gone.
"""

from __future__ import annotations

MAX_PACKET_BYTES = 65536
MAX_LISTENERS = 64
"""Well under SCM_MAX_FD, 253: the most descriptors one packet carries."""

READY = b"ready"
"""Master: locked in, accepts connections."""
FAILED = b"failed "
"""Master: cannot start; the rest of the packet is one line for the operator."""
DRAIN = b"drain"
"""Supervisor: accept what the backlog holds, let children finish, exit."""
STOP = b"stop"
"""Supervisor: end the children now, exit."""
