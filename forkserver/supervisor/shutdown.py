"""Shut the server down step by step: drain, then stop, then kill. Runs in the supervisor."""

from __future__ import annotations

import signal

from forkserver.ipc import control
from forkserver.logline import Log
from forkserver.supervisor.generations import Generations
from forkserver.supervisor.systemd import Notifier

_STOP_S = 5.0
"""How long a master that was told STOP may take: its children get TERM after one second and KILL after three."""
_KILL_AGAIN_S = 0.5


class Shutdown:
    """The timer of a shutdown: ``run_timer`` must be called at ``due``, None: never.

    ``now`` is always the supervisor's monotonic clock, in seconds.
    """

    def __init__(self, masters: Generations, log: Log, notifier: Notifier) -> None:
        self._masters = masters
        self._log = log
        self._notifier = notifier
        self._stopping = False
        self.due: float | None = None

    def begin(self, reason: str, now: float) -> None:
        """Drain for up to ``drain_s`` seconds; log the ``reason``. A second call stops the transfers at once."""
        if self.due is None:
            drain_s = self._masters.settings.drain_s
            self._log.event("drain", reason=reason, drain_s=f"{drain_s:.1f}")
            self._notifier.stopping()
            self._notifier.extend_timeout(drain_s + 2 * _STOP_S)
            self._masters.shut_down(control.DRAIN)
            self.due = now + drain_s
        elif not self._stopping:
            self.due = now

    def run_timer(self, now: float) -> None:
        """Take the next step if it is due."""
        if self.due is None or now < self.due:
            return
        if not self._stopping:
            self._stopping = True
            self.due = now + _STOP_S
            self._masters.shut_down(control.STOP)
        else:
            # Kill again and again: when masters die, their children become orphans, which must be killed, too.
            self.due = now + _KILL_AGAIN_S
            self._masters.kill_masters()
            self._masters.signal_orphans(signal.SIGKILL)
