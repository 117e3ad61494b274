"""The end of a server, step by step: drain, then stop, then kill. Runs in the supervisor."""

from __future__ import annotations

import signal

from forkserver.ipc import control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.supervisor.generations import Generations

STOP_S = 5.0
"""How long a master that was told STOP may take: its children get TERM after one second and KILL after three."""
_KILL_AGAIN_S = 0.5


class Ending:
    """``now`` is always the supervisor's clock, in seconds; ``moment`` is when ``keep_time`` has something to do."""

    def __init__(self, masters: Generations) -> None:
        self._masters = masters
        self._killing = False
        self.moment: float | None = None

    def begin(self, now: float, drain_s: float) -> None:
        """Let transfers finish for up to ``drain_s``; called again, stop at once."""
        if self.moment is None:
            self._masters.close(control.DRAIN)
            self.moment = now + drain_s
        elif not self._killing:
            self.moment = now

    def keep_time(self, now: float) -> None:
        """Take the next step, if it is due."""
        if self.moment is None or now < self.moment:
            return
        if not self._killing:
            self._killing = True
            self.moment = now + STOP_S
            self._masters.close(control.STOP)
            self._masters.signal_orphans(signal.SIGTERM)
        else:
            self.moment = now + _KILL_AGAIN_S  # the masters' children are orphans by then
            self._masters.kill_masters()
            self._masters.signal_orphans(signal.SIGKILL)
