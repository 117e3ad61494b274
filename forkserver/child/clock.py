"""The only clock of a child. A deadline is a moment of this clock, a timeout a duration; both are in seconds."""

from __future__ import annotations

import time

now = time.monotonic


class Pace:
    """How fast a peer must take what is sent: a byte every ``stall_s``, and ``min_rate_bytes`` a second on average."""

    __slots__ = ("_min_rate_bytes", "_sent_bytes", "_stall_s", "_started")

    def __init__(self, stall_s: float, min_rate_bytes: int) -> None:
        self._stall_s = stall_s
        self._min_rate_bytes = min_rate_bytes
        self._started = now()
        self._sent_bytes = 0

    def sent(self, size_bytes: int) -> None:
        """Note that the peer took ``size_bytes`` more."""
        self._sent_bytes += size_bytes

    def deadline(self) -> float:
        """Return the moment until which the peer must take more."""
        stall = now() + self._stall_s
        if not self._min_rate_bytes:
            return stall
        return min(stall, self._started + self._stall_s + self._sent_bytes / self._min_rate_bytes)
