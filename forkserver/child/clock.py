"""The child's only clock. A deadline is a moment of it, a timeout a duration; both in seconds."""

from __future__ import annotations

import time

now = time.monotonic


class Pace:
    """How fast a peer must take what is sent: some every ``stall_s``, ``min_rate_bytes`` a second on the average."""

    __slots__ = ("_min_rate_bytes", "_sent_bytes", "_stall_s", "_started")

    def __init__(self, stall_s: float, min_rate_bytes: int) -> None:
        self._stall_s = stall_s
        self._min_rate_bytes = min_rate_bytes
        self._started = now()
        self._sent_bytes = 0

    def sent(self, size_bytes: int) -> None:
        """Note progress."""
        self._sent_bytes += size_bytes

    def deadline(self) -> float:
        """Until when more progress must be made, seen from now."""
        stall = now() + self._stall_s
        if not self._min_rate_bytes:
            return stall
        return min(stall, self._started + self._stall_s + self._sent_bytes / self._min_rate_bytes)
