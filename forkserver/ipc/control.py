"""What supervisor and master say to each other over their SOCK_SEQPACKET channel. Runs in both.

The supervisor speaks first: the encoded settings, with the listening sockets attached (SCM_RIGHTS, unix(7)). From
then on each packet is one word. End-of-file means that the other side is gone.

After an upgrade the two may be of different versions, for a master is started from the files that are there: so a word
that is not known is passed over, and the form of a word that is never changes; what must change gets another word.
"""

from __future__ import annotations

import itertools
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PACKET_BYTES = 65536
MAX_LISTENERS = 64
"""Well under SCM_MAX_FD, 253: the most descriptors one packet carries."""

READY = b"ready "
"""Master: locked in, will accept once it is told OTHERS; the rest of the packet is its version."""
FAILED = b"failed "
"""Master: cannot start; the rest of the packet is one line for the operator."""
TABLE = b"table"
"""Master, before it forks: the shared table's descriptor is attached (SCM_RIGHTS); see ``forkserver.ipc.slots``."""
REPORT = b"report "
"""Master: its heartbeat. How many children live, and how many connections were served, in decimal digits."""
PEERS = b"peers "
"""Connections of peers, ``PEER=COUNT`` each, as many as there are now: all of them at first, then what has changed.

Master, when it drains: of its own. Supervisor, to the master that accepts: of all that drain together.
"""
OTHERS = b"others "
"""Supervisor: how many children the masters of other generations have; they count against this one's limit."""
DRAIN = b"drain"
"""Supervisor: accept what the backlog holds, let children finish, exit.

Master: I drain, or yield, and you know all my PEERS; the next REPORT is of what I have left.
"""
YIELD = b"yield"
"""Supervisor: another master has your sockets, and their backlog; accept no more, let children finish, exit."""
STOP = b"stop"
"""Supervisor: end the children now, exit."""

HEARTBEAT_S = 1.0
"""A master reports at least as often; the supervisor replaces one that misses several."""
MAX_PEERS = 65536
"""Twice the most children: while a master tells its peers in several packets, old ones and new ones may mix."""
_PEERS_PER_PACKET = 2000
_MAX_PEER_CHARS = 16  # as `admission.peer_key` makes them
_MAX_DIGITS = 15


def send_peers(channel: socket.socket, news: set[str], count: Callable[[str], int]) -> bool:
    """Tell PEERS, those in ``news``, and take out of it whom the other side knows now. Never blocks.

    False: the channel is full; once there is room, or later, tell the rest.
    """
    while news:
        some = list(itertools.islice(news, _PEERS_PER_PACKET))
        text = " ".join([f"{peer}={count(peer)}" for peer in some])
        try:
            channel.send(PEERS + text.encode("ascii"), socket.MSG_DONTWAIT)
        except ConnectionError:
            pass  # it is gone, and need not know
        except OSError:
            return False
        news.difference_update(some)
    return True


def parse_peers(packet: bytes) -> dict[str, int]:
    """What a packet of PEERS says; 0: that peer has none any more. Raises ValueError."""
    entries = [entry.partition("=") for entry in packet.removeprefix(PEERS).decode("ascii").split()]
    # It is told on: what is too long here would not fit into a packet there.
    if any(len(peer) > _MAX_PEER_CHARS for peer, _, _ in entries):
        raise ValueError("that is no peer")
    return {peer: _count(count) for peer, _, count in entries}


def parse_report(packet: bytes) -> tuple[int, int]:
    """What a packet of REPORT says: children, connections served. Raises ValueError."""
    children, served = packet.removeprefix(REPORT).decode("ascii").split()
    return _count(children), _count(served)


def _count(digits: str) -> int:
    # int() alone would take signs, too.
    if len(digits) > _MAX_DIGITS or not digits.isdecimal():
        raise ValueError("that is no count")
    return int(digits)


def merge_peers(known: dict[str, int], told: dict[str, int]) -> None:
    """Bring ``known`` up to what was ``told``; a peer that has no connection any more leaves nothing behind."""
    for peer, count in told.items():
        if count:
            known[peer] = count
        else:
            known.pop(peer, None)
