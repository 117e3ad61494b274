"""Not to fork as fast as children die: a growing, capped pause. Pure policy. Runs in the master."""

from __future__ import annotations

_FIRST_S = 0.1
_LONGEST_S = 5.0


class Throttle:
    """``until`` is the moment before which nothing may be spawned. The caller brings the time, monotonic seconds."""

    def __init__(self) -> None:
        self.until = 0.0
        self._pause_s = 0.0

    def penalise(self, now: float) -> float:
        """A fork failed, or a child died before it served anything: pause, longer each time. Returns the seconds."""
        if now >= self.until:
            self._pause_s = min(max(_FIRST_S, self._pause_s * 2), _LONGEST_S)
            self.until = now + self._pause_s
        return self._pause_s

    def forgive(self) -> None:
        """A child has served something: the next pause is a short one again."""
        self._pause_s = 0.0
