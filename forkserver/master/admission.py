"""May this peer have one more connection? Pure policy, exact, no sockets. Runs in the master."""

from __future__ import annotations

import socket

_IPV6_NETWORK_BYTES = 8


def peer_key(host: str) -> str:
    """What counts as one peer: an IPv4 address, or the /64 of an IPv6 one, the least a subscriber gets (RFC 6177).

    Of the latter the hexadecimal digits, 16 of them, so that every key can be told as a word.
    """
    if ":" not in host:
        return host
    if "." in host:  # an IPv4 peer of a socket that serves both families, ::ffff:192.0.2.1
        return host.rpartition(":")[2]
    return socket.inet_pton(socket.AF_INET6, host.partition("%")[0])[:_IPV6_NETWORK_BYTES].hex()


class Admission:
    """Counts the connections of each peer.

    ``others`` are those that masters before us still have: they count against the limit, too. ``news`` are the peers
    whose count the supervisor does not know; None, and it is to know none of them, until ``disclose``.
    """

    def __init__(self, max_per_peer: int) -> None:
        self._max_per_peer = max_per_peer
        self._connections: dict[str, int] = {}
        self.others: dict[str, int] = {}
        self.news: set[str] | None = None

    def count(self, peer: str) -> int:
        """How many connections of ``peer`` are ours."""
        return self._connections.get(peer, 0)

    def admit(self, peer: str) -> bool:
        """Count one more connection of ``peer``, if it may have one."""
        count = self._connections.get(peer, 0)
        if count + self.others.get(peer, 0) >= self._max_per_peer:
            return False
        self._connections[peer] = count + 1
        if self.news is not None:
            self.news.add(peer)
        return True

    def release(self, peer: str) -> None:
        """One connection of ``peer`` has ended."""
        count = self._connections[peer] - 1
        if count:
            self._connections[peer] = count
        else:
            del self._connections[peer]
        if self.news is not None:
            self.news.add(peer)

    def disclose(self) -> None:
        """From now on others are to count our connections: all of them are news, and each change will be."""
        self.news = set(self._connections)
