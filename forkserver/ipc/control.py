"""The control channel between supervisor and master: SOCK_SEQPACKET, one command or report a packet. Runs in both.

The supervisor's first packet has the encoded settings, with the listening sockets attached (SCM_RIGHTS, unix(7)).
Each later packet begins with one of the words below. End-of-file means that the other side is gone.

After an upgrade the two sides may be of different versions, because a master is started from the files that are
installed then. Therefore unknown words are ignored, and the form of a known word never changes: a change needs another
word.
"""

from __future__ import annotations

import itertools
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PACKET_BYTES = 65536
MAX_LISTENERS = 64
"""Well below SCM_MAX_FD, 253, the most descriptors that one packet carries."""

READY = b"ready "
"""Master: I am confined and will accept once I get OTHERS. The rest of the packet is the master's version."""
FAILED = b"failed "
"""Master: I cannot start, or go on. The rest of the packet is one line for the operator."""
TABLE = b"table"
"""Master, before its first fork: the descriptor of the shared table is attached (SCM_RIGHTS), see ``slots``."""
REPORT = b"report "
"""Master: the heartbeat, with the number of live children and of connections served, in decimal digits."""
PEERS = b"peers "
"""The current number of connections of some peers, ``PEER=COUNT`` each: first of all peers, then of those that change.

A master that drains sends its own counts. The supervisor sends the accepting master the sums over all that drain.
"""
OTHERS = b"others "
"""Supervisor: the number of children of all other generations. They count against the master's limit, too."""
DRAIN = b"drain"
"""Supervisor: accept what the backlog holds, let children finish, exit.

Master: I drain or yield, and have sent all PEERS; the next REPORT has the children that are left.
"""
YIELD = b"yield"
"""Supervisor: another master has your sockets and their backlog. Accept no more, let children finish, exit."""
STOP = b"stop"
"""Supervisor: end the children now and exit."""

HEARTBEAT_S = 1.0
"""A master reports at least so often. The supervisor replaces a master that misses several heartbeats."""
MAX_PEERS = 65536
"""Twice the most children: while a master sends its peers in several packets, old and new peers may mix."""
_PEERS_PER_PACKET = 2000
_MAX_PEER_CHARS = 16  # as `admission.peer_key` makes them
_MAX_DIGITS = 15


def send_peers(channel: socket.socket, unsent: set[str], count: Callable[[str], int]) -> bool:
    """Send PEERS for the peers in ``unsent``, and remove those that were sent from the set. Never blocks.

    False: the channel is full, and some peers are left. Call again when there is room, or later.
    """
    while unsent:
        some = list(itertools.islice(unsent, _PEERS_PER_PACKET))
        text = " ".join([f"{peer}={count(peer)}" for peer in some])
        try:
            channel.send(PEERS + text.encode("ascii"), socket.MSG_DONTWAIT)
        except ConnectionError:
            pass  # the other side is gone and needs no counts
        except OSError:
            return False
        unsent.difference_update(some)
    return True


def parse_peers(packet: bytes) -> dict[str, int]:
    """Return the count of each peer in a PEERS packet; 0: the peer has no connection any more. Raises ValueError."""
    entries = [entry.partition("=") for entry in packet.removeprefix(PEERS).decode("ascii").split()]
    # The peers are sent on to another master. Longer ones would not fit into a packet there.
    if any(len(peer) > _MAX_PEER_CHARS for peer, _, _ in entries):
        raise ValueError("a peer is too long")
    return {peer: _count(count) for peer, _, count in entries}


def parse_report(packet: bytes) -> tuple[int, int]:
    """Return the numbers in a REPORT packet: live children, connections served. Raises ValueError."""
    children, served = packet.removeprefix(REPORT).decode("ascii").split()
    return _count(children), _count(served)


def _count(digits: str) -> int:
    # int() alone would accept signs, too.
    if len(digits) > _MAX_DIGITS or not digits.isdecimal():
        raise ValueError("not a count")
    return int(digits)


def merge_peers(known: dict[str, int], changed: dict[str, int]) -> None:
    """Put the ``changed`` counts into ``known``. A peer with no connection any more is removed."""
    for peer, count in changed.items():
        if count:
            known[peer] = count
        else:
            known.pop(peer, None)
