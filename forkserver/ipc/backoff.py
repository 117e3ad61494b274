"""Back-off: the growing, capped delay after failures in a row. Pure policy. Runs in master and supervisor.

The master delays forks after children that die before they serve anything, the supervisor delays the start of a master
after one that died. Without a delay, a fault that ends every child at once would keep the machine busy with forks.
"""

from __future__ import annotations

_SHORTEST_S = 0.1
_LONGEST_S = 5.0


class Backoff:
    """Delays that double from 0.1 s to 5 s; ``until`` is the end of the last one.

    ``first_s`` is the delay after the first failure. Every moment is the caller's, in seconds of a monotonic clock.
    """

    def __init__(self, *, first_s: float = _SHORTEST_S) -> None:
        self._first_s = first_s
        self._next_s = first_s
        self._delay_s = first_s
        self.until = 0.0

    def fail(self, now: float) -> float:
        """Begin the delay that follows a failure; return its seconds.

        A failure during a delay begins no other: children that die together have died for one reason.
        """
        if now >= self.until:
            self._delay_s = self._next_s
            self._next_s = min(max(_SHORTEST_S, self._delay_s * 2), _LONGEST_S)
            self.until = now + self._delay_s
        return self._delay_s

    def reset(self) -> None:
        """Note a success: the next failure is the first in a row."""
        self._next_s = self._first_s
