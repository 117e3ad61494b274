"""The masters, one after the other: start one, announce it, bury it, start the next. Runs in the supervisor."""

from __future__ import annotations

import os

from forkserver import __version__
from forkserver.errors import OperatorError, name_exit
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


MAX_FAILED_STARTS = 10
"""In a row, over some twenty seconds; then whoever started the server should know."""


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
        self._failed_starts = 0
        self._sessions: set[int] = set()
        self.start_at: float | None = None

    def __bool__(self) -> bool:
        """Whether anything lives: a master, or a child of one that is dead."""
        return bool(self._generations or self._orphans())

    def start(self, now: float) -> None:
        """Start a master. Raises OperatorError where that is hopeless: the first time, or too often in a row."""
        self.start_at = None
        self._count += 1
        self._backoff.started(now)
        try:
            generation = Generation(self._count, self._settings, self._listeners)
        except OperatorError as error:
            self._retry(str(error), now)
        else:
            self._generations.append(generation)
            self._sessions.add(generation.pid)

    def watch(self, poll: select.poll, events: int) -> None:
        """Add what the masters may say to a poll set."""
        for generation in self._generations:
            poll.register(generation.channel, events)

    def listen(self) -> None:
        """Hear the masters, and announce one that is ready."""
        for generation in self._generations:
            if generation.listen():
                self._was_ready = True
                self._failed_starts = 0
                self._log.event(
                    "ready",
                    address=self._addresses,
                    master_pid=generation.pid,
                    root=self._settings.root,
                    generation=generation.number,
                    version=__version__,
                )

    def bury(self, now: float) -> None:
        """Bury masters, and have the next one started; bury orphans. Raises OperatorError as ``start`` does."""
        for generation in list(self._generations):
            how = generation.ended()
            if how is None:
                continue
            self._generations.remove(generation)
            generation.channel.close()
            if not self._closed:
                self._retry(generation.complaint or f"it ended with {how}", now, pid=generation.pid)
        for pid, wait_status in orphans.reap(self._pids()):
            self._log.event("orphan", pid=pid, cause=name_exit(os.waitstatus_to_exitcode(wait_status)))

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
        orphans.send_signal(self._orphans(), number)

    def _retry(self, complaint: str, now: float, pid: int = 0) -> None:
        if not self._was_ready:
            raise OperatorError(complaint)
        self._failed_starts += 1
        if self._failed_starts > MAX_FAILED_STARTS:
            raise OperatorError(
                f"no master became ready in {MAX_FAILED_STARTS} starts: {complaint}; mend it and restart"
            )
        delay_s = self._backoff.delay_s(now)
        self.start_at = now + delay_s
        self._log.event("master-died", pid=pid or "-", reason=complaint, restart_s=f"{delay_s:.1f}")

    def _orphans(self) -> list[int]:
        return orphans.living(self._sessions, self._pids())

    def _pids(self) -> set[int]:
        return {generation.pid for generation in self._generations}
