"""When to start the next master after one has died: at once, then later each time. Pure. Runs in the supervisor."""

from __future__ import annotations

_FIRST_S = 0.1
_LONGEST_S = 5.0
_SOUND_AFTER_S = 10.0


class Backoff:
    """Moments and durations are seconds of the caller's monotonic clock."""

    def __init__(self) -> None:
        self._started = 0.0
        self._next_s = 0.0

    def started(self, now: float) -> None:
        """A master was started."""
        self._started = now

    def delay_s(self, now: float) -> float:
        """A master died: how long to wait before the next. One that lived for ten seconds clears the record."""
        if now - self._started >= _SOUND_AFTER_S:
            self._next_s = 0.0
        delay = self._next_s
        self._next_s = min(max(_FIRST_S, delay * 2), _LONGEST_S)
        return delay
