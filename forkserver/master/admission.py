"""May this peer have one more connection? Pure policy, exact, no sockets. Runs in the master."""

from __future__ import annotations

import socket

_IPV6_NETWORK_BYTES = 8


def peer_key(host: str) -> str | bytes:
    """What counts as one peer: an IPv4 address, or the /64 of an IPv6 one, the least a subscriber gets (RFC 6177)."""
    if ":" not in host:
        return host
    if "." in host:  # an IPv4 peer of a socket that serves both families, ::ffff:192.0.2.1
        return host.rpartition(":")[2]
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:_IPV6_NETWORK_BYTES]


class Admission:
    """Counts the connections of each peer."""

    def __init__(self, max_per_peer: int) -> None:
        self._max_per_peer = max_per_peer
        self._connections: dict[str | bytes, int] = {}

    def admit(self, peer: str | bytes) -> bool:
        """Count one more connection of ``peer``, if it may have one."""
        count = self._connections.get(peer, 0)
        if count >= self._max_per_peer:
            return False
        self._connections[peer] = count + 1
        return True

    def release(self, peer: str | bytes) -> None:
        """One connection of ``peer`` has ended."""
        count = self._connections[peer] - 1
        if count:
            self._connections[peer] = count
        else:
            del self._connections[peer]
