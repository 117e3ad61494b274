"""What supervisor and master say to each other over their SOCK_SEQPACKET channel. Runs in both.

The supervisor speaks first: the encoded settings, with the listening sockets attached (SCM_RIGHTS, unix(7)). From
then on each packet is one word. End-of-file means that the other side is gone.
"""

from __future__ import annotations

MAX_PACKET_BYTES = 65536
MAX_LISTENERS = 64
"""Well under SCM_MAX_FD, 253: the most descriptors one packet carries."""

READY = b"ready "
"""Master: locked in, will accept once it is told OTHERS; the rest of the packet is its version."""
FAILED = b"failed "
"""Master: cannot start; the rest of the packet is one line for the operator."""
REPORT = b"report "
"""Master: its heartbeat. How many children live, and how many connections were served, in decimal digits."""
OTHERS = b"others "
"""Supervisor: how many children the masters of other generations have; they count against this one's limit."""
DRAIN = b"drain"
"""Supervisor: accept what the backlog holds, let children finish, exit."""
STOP = b"stop"
"""Supervisor: end the children now, exit."""

HEARTBEAT_S = 1.0
"""A master reports at least as often; the supervisor replaces one that misses several."""
