"""The masters, one after the other: start one, announce it, bury it, start the next. Runs in the supervisor."""

from __future__ import annotations

import os

from forkserver import __version__
from forkserver.errors import OperatorError
from forkserver.supervisor import listener, orphans
from forkserver.supervisor.backoff import Backoff
from forkserver.supervisor.generation import Generation

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    import signal
    import socket

    from forkserver.logline import Log
    from forkserver.settings import Settings


class Succession:
    """One generation lives at a time for now, in a list: a reload will start the next before the last has drained.

    ``now`` is always the supervisor's clock, in seconds.
    """

    def __init__(self, settings: Settings, listeners: list[socket.socket], log: Log) -> None:
        self._settings = settings
        self._listeners = listeners
        self._addresses = ",".join(map(listener.describe, listeners))
        self._log = log
        self._generations: list[Generation] = []
        self._count = 0
        self._backoff = Backoff()
        self._was_ready = False
        self._closed = False
        self.start_at: float | None = None

    def start(self, now: float) -> None:
        """Start a master. Raises OperatorError where no process can be made."""
        self.start_at = None
        self._count += 1
        self._backoff.started(now)
        self._generations.append(Generation(self._count, self._settings, self._listeners))

    def watch(self, poll: select.poll, events: int) -> None:
        """Add what the masters may say to a poll set."""
        for generation in self._generations:
            poll.register(generation.channel, events)

    def listen(self) -> None:
        """Hear the masters, and announce one that is ready."""
        for generation in self._generations:
            if generation.listen():
                self._was_ready = True
                self._log.event(
                    "ready",
                    address=self._addresses,
                    master_pid=generation.pid,
                    root=self._settings.root,
                    generation=generation.number,
                    version=__version__,
                )

    def bury(self, now: float) -> None:
        """Bury masters and orphans. Raises OperatorError if no master ever became ready: the next would not either."""
        for generation in list(self._generations):
            how = generation.ended()
            if how is None:
                continue
            self._generations.remove(generation)
            generation.channel.close()
            if not self._closed:
                self._replace(generation, generation.complaint or f"the master ended with {how}", now)
        for pid, wait_status in orphans.reap(self._pids()):
            self._log.event("orphan", pid=pid, exit=os.waitstatus_to_exitcode(wait_status))

    def close(self, word: bytes) -> None:
        """Start no master any more, and tell those that live: DRAIN or STOP.

        They hold the sockets too: they finish the backlog, then close them; from then on the kernel refuses.
        """
        if not self._closed:
            self._closed = True
            self.start_at = None
            for each in self._listeners:
                each.close()
        for generation in self._generations:
            generation.tell(word)

    def kill_masters(self) -> None:
        """End the masters now; their children become orphans."""
        for generation in self._generations:
            generation.kill()

    def signal_orphans(self, number: signal.Signals) -> None:
        """Signal the children of masters that are dead."""
        orphans.send_signal(orphans.living(self._pids()), number)

    def _replace(self, generation: Generation, complaint: str, now: float) -> None:
        if not self._was_ready:
            raise OperatorError(complaint)
        delay_s = self._backoff.delay_s(now)
        self.start_at = now + delay_s
        self._log.event("master-died", pid=generation.pid, reason=complaint, restart_s=f"{delay_s:.1f}")

    def _pids(self) -> set[int]:
        return {generation.pid for generation in self._generations}
