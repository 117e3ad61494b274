"""Limit the rate of receiving, for all connections of a run together. Runs in the client."""

from __future__ import annotations

import threading
import time

_SMALLEST_BLOCK = 1024
_LARGEST_BLOCK = 1 << 18
_BLOCKS_A_SECOND = 10
_BEHIND_S = 0.5


class RateLimit:
    """At most ``rate`` bytes a second on average. After a pause, at most half a second is made up for.

    ``block_bytes`` is the most to receive at a time.
    """

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.block_bytes = min(max(rate // _BLOCKS_A_SECOND, _SMALLEST_BLOCK), _LARGEST_BLOCK)
        self._lock = threading.Lock()
        self._due = time.monotonic()

    def received(self, size_bytes: int, woken: threading.Event) -> None:
        """Note that ``size_bytes`` have come. Wait until they were due, or until the event ``woken`` is set."""
        with self._lock:
            self._due = max(self._due, time.monotonic() - _BEHIND_S) + size_bytes / self._rate
            wait_s = self._due - time.monotonic()
        if wait_s > 0:
            woken.wait(wait_s)
