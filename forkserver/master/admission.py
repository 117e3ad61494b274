"""Limit the connections of each peer. Pure policy, exact, no sockets. Runs in the master."""

from __future__ import annotations

import socket

_IPV6_NETWORK_BYTES = 8


def peer_key(host: str) -> str:
    """Return the key under which connections from ``host`` are counted.

    The key of an IPv4 address is the address itself. The key of an IPv6 address is its /64, the least that a subscriber
    gets (RFC 6177), as 16 hexadecimal digits: every key is one word of a packet.
    """
    if ":" not in host:
        return host
    if "." in host:  # an IPv4 peer of a socket that serves both families, ::ffff:192.0.2.1
        return host.rpartition(":")[2]
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:_IPV6_NETWORK_BYTES].hex()


class Admission:
    """Count the connections of each peer, and admit at most ``max_per_peer``.

    ``elsewhere`` has the connections of each peer with retiring masters; they count against the limit, too.
    ``unreported`` are the peers whose count must be sent to the supervisor; None until ``disclose``.
    """

    def __init__(self, max_per_peer: int) -> None:
        self._max_per_peer = max_per_peer
        self._connections: dict[str, int] = {}
        self.elsewhere: dict[str, int] = {}
        self.unreported: set[str] | None = None

    def count(self, peer: str) -> int:
        """Return how many connections of ``peer`` this master has."""
        return self._connections.get(peer, 0)

    def admit(self, peer: str) -> bool:
        """Count one more connection of ``peer``; False: the peer has as many as it may have."""
        count = self._connections.get(peer, 0)
        if count + self.elsewhere.get(peer, 0) >= self._max_per_peer:
            return False
        self._connections[peer] = count + 1
        if self.unreported is not None:
            self.unreported.add(peer)
        return True

    def release(self, peer: str) -> None:
        """Note that one connection of ``peer`` has ended."""
        count = self._connections[peer] - 1
        if count:
            self._connections[peer] = count
        else:
            del self._connections[peer]
        if self.unreported is not None:
            self.unreported.add(peer)

    def disclose(self) -> None:
        """Mark every count as unreported, and each count that changes from now on."""
        self.unreported = set(self._connections)
