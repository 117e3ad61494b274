"""The masters, one after the other: start one, let it take over, reap it, start the next. Runs in the supervisor."""

from __future__ import annotations

import os

from forkserver.errors import OperatorError, name_end
from forkserver.ipc.account import Life, account_of_cut
from forkserver.ipc.backoff import Backoff
from forkserver.supervisor import journal, listener, orphans, peertotals
from forkserver.supervisor.generation import Generation
from forkserver.supervisor.tables import OrphanTables

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select
    import signal
    from collections.abc import Callable

    from forkserver.logline import Log
    from forkserver.settings import Settings
    from forkserver.supervisor.listener import Listeners

    Answer = Callable[[OperatorError | None], None]

MAX_FAILED_STARTS = 10
"""In a row, over some twenty seconds; then whoever started the server should know."""
_SOUND_AFTER_S = 10.0
"""A master that ran for so long before it died is no failure in a row."""


class Generations:
    """At most one generation accepts; one may be starting to take over from it, and those before it drain.

    ``now`` is always the supervisor's clock, in seconds.
    """

    def __init__(self, settings: Settings, listeners: Listeners, log: Log) -> None:
        self.settings = settings
        self._listeners = listeners
        self._log = log
        self._generations: list[Generation] = []
        self._candidate: Generation | None = None
        self._answer: Answer | None = None
        self._done: list[Answer] = []
        self._count = 0
        self._backoff = Backoff(first_s=0.0)
        self._started_at = 0.0
        self._was_ready = False
        self._closed = False
        self._failed_starts = 0
        self._served_before = 0
        """Connections that generations which have ended served: the number that is told only rises."""
        self._sessions: set[int] = set()
        self._orphan_tables = OrphanTables()
        self.start_at: float | None = None

    def __bool__(self) -> bool:
        """Whether anything lives: a master, or a child of one that is dead."""
        return bool(self._generations or self._orphans())

    def start(self, now: float) -> None:
        """Start a master. Raises OperatorError where that is hopeless: the first time, or too often in a row."""
        self.start_at = None
        self._started_at = now
        try:
            self._begin(self.settings, self._listeners)
        except OperatorError as error:
            self._retry(str(error), now)

    def reload(self, settings: Settings, *, adopted: bool, answer: Answer) -> None:
        """Start a master with new settings, to take over once it is ready; ``answer`` is told what became of it.

        Until it is ready nothing changes; by the time of a good answer the old one accepts no more. ``adopted``:
        the sockets are the service manager's, and stay. Raises OperatorError where it cannot even be started.
        """
        if self._closed:
            raise OperatorError("the server is being stopped; start it again with the new settings")
        if self._candidate:
            raise OperatorError("another reload is under way; try again when it has ended")
        listeners = self._listeners if adopted else listener.bind(settings, self._listeners)
        try:
            self._candidate = self._begin(settings, listeners)
        except OperatorError:
            listener.close_all_but(listeners, self._listeners)
            raise
        self._answer = answer

    def watch(self, poll: select.poll) -> None:
        """Add what the masters may say to a poll set."""
        for generation in self._generations:
            generation.watch(poll)

    def listen(self, now: float) -> None:
        """Hear the masters; one that is ready takes over. Raises OperatorError as ``start`` does."""
        for generation in self._generations:
            became_ready = self._hear(generation)
            if generation.nonsense:
                self._dismiss(generation, f"it said what no master says: {generation.nonsense}", now)
            # One that retires or was told to end says it late: another has the sockets, or nobody is to have them.
            elif became_ready and not generation.retiring and not self._closed:
                self._promote(generation)

    def speak(self) -> None:
        """Tell the masters what there is to tell, and those who asked for a reload that it is done."""
        counted = peertotals.tell(self._generations)
        while counted and self._done:
            self._done.pop()(None)

    def beat(self, now: float) -> None:
        """To be called every ``control.HEARTBEAT_S``: who has been silent for too long is killed, and replaced at once.

        Raises OperatorError as ``start`` does.
        """
        for generation in self._generations:
            if complaint := generation.beat():
                self._dismiss(generation, complaint, now)

    def reap(self, now: float) -> None:
        """Bury masters, and have the next one started; reap orphans. Raises OperatorError as ``start`` does."""
        for generation in list(self._generations):
            how = generation.ended()
            if how is None:
                continue
            self._hear(generation)  # its last words; that it is ready counts no more
            self._generations.remove(generation)
            self._served_before += generation.served
            peertotals.mark_changed(self._generations, generation.peers)
            generation.close()
            if generation.table:
                left = orphans.children_among(generation.table.pids(), generation.pid)
                # One that has not come so far as to have a row.
                left.update(orphans.living({generation.pid}, self._pids()))
                self._orphan_tables.add(generation.table, left)
            self._lose(generation, generation.complaint or f"it ended with {how}", now)
        for pid, wait_status, usage in orphans.reap(self._pids()):
            slot, served = self._orphan_tables.remove(pid)
            # Bounded, for an orphan that was taken over could say any number.
            self._served_before += min(served, self.settings.connections_per_child)
            cause = name_end(os.waitstatus_to_exitcode(wait_status))
            life = Life(pid, cause, slot, peer=slot.peer if slot else "-", usage=usage, now=now)
            self._log.event("orphan", **account_of_cut(life))

    def close(self, word: bytes) -> None:
        """Start no master any more, and tell those that live: DRAIN or STOP.

        They hold the sockets too: they finish the backlog, then close them; from then on the kernel refuses.
        """
        if not self._closed:
            self._closed = True
            self.start_at = None
            self._abandon("the server is being stopped")
            listener.close_all_but(self._listeners, {})
        for generation in self._generations:
            generation.tell(word)

    def kill_masters(self) -> None:
        """End the masters now; their children become orphans."""
        for generation in self._generations:
            generation.kill()

    def signal_orphans(self, number: signal.Signals) -> None:
        """Signal the children of masters that are dead."""
        orphans.send_signal(self._orphans(), number)

    @property
    def reloading(self) -> bool:
        """Whether a master with new settings is starting."""
        return self._candidate is not None

    @property
    def log_is_old(self) -> bool:
        """Whether a master that accepts writes its log to another file than a master that is started now would."""
        now = journal.destination()
        return any(not each.retiring and each.log_destination != now for each in self._generations)

    @property
    def serving(self) -> bool:
        """Whether a master is there to accept."""
        return any(generation.ready and not generation.retiring for generation in self._generations)

    @property
    def tables(self) -> dict[str, int]:
        """Name and descriptor of each table that tells of a living process, or may."""
        tables = [generation.table for generation in self._generations if generation.table]
        return {table.name: table.fd for table in [*tables, *self._orphan_tables.tables]}

    @property
    def status(self) -> str:
        """One line for people."""
        children = sum(generation.children for generation in self._generations)
        served = self._served_before + sum(generation.served for generation in self._generations)
        addresses = ",".join(map(listener.describe, self._listeners.values()))
        accepting = next((each for each in self._generations if each.ready and not each.retiring), None)
        master = f"version {accepting.version}, generation {accepting.number}, " if accepting else ""
        return (
            f"serving {self.settings.root} on {addresses}, {master}"
            f"{children} of {self.settings.max_children} children, {served:,} served"
        )

    def _begin(self, settings: Settings, listeners: Listeners) -> Generation:
        self._count += 1
        listener.prepare(listeners, settings)
        generation = Generation(self._count, settings, listeners)
        self._generations.append(generation)
        for other in self._generations:
            generation.owed.update(other.peers)
        self._sessions.add(generation.pid)
        return generation

    def _promote(self, generation: Generation) -> None:
        self._was_ready = True
        self._failed_starts = 0
        for other in self._generations:
            # A candidate is yet to come: it takes over from whoever accepts when it is ready.
            if other not in (generation, self._candidate) and not other.retiring:
                other.retire(generation)
        if generation is self._candidate:
            listener.close_all_but(self._listeners, generation.listeners)
            self.settings, self._listeners = generation.settings, generation.listeners
            self._log.form = journal.form(self.settings.log_format)
            self._candidate = None
            self.start_at = None  # the master it was to replace is no longer missed
            if self._answer:
                self._done.append(self._answer)
        self._log.event(
            "ready",
            address=",".join(map(listener.describe, self._listeners.values())),
            master_pid=generation.pid,
            root=self.settings.root,
            generation=generation.number,
            version=generation.version,
        )

    def _abandon(self, complaint: str) -> None:
        if self._candidate:
            listener.close_all_but(self._candidate.listeners, self._listeners)
            self._candidate = None
            if self._answer:
                self._answer(OperatorError(complaint))

    def _hear(self, generation: Generation) -> bool:
        became_ready, changed = generation.listen()
        peertotals.mark_changed(self._generations, changed)
        return became_ready

    def _dismiss(self, generation: Generation, complaint: str, now: float) -> None:
        self._log.event("master-stuck", pid=generation.pid, reason=complaint)
        generation.kill()
        self._lose(generation, complaint, now)
        generation.dismiss()  # whenever its death comes, it is of no more consequence

    def _lose(self, generation: Generation, complaint: str, now: float) -> None:
        if generation is self._candidate:
            self._abandon(complaint)
        elif not generation.retiring and not self._closed:
            self._retry(complaint, now, pid=generation.pid)

    def _retry(self, complaint: str, now: float, pid: int = 0) -> None:
        if not self._was_ready:
            raise OperatorError(complaint)
        self._failed_starts += 1
        if self._failed_starts > MAX_FAILED_STARTS:
            raise OperatorError(
                f"no master became ready in {MAX_FAILED_STARTS} starts: {complaint}; mend it and restart"
            )
        if now - self._started_at >= _SOUND_AFTER_S:
            self._backoff.reset()
        delay_s = self._backoff.fail(now)
        self.start_at = now + delay_s
        self._log.event("master-died", pid=pid or "-", reason=complaint, restart_s=f"{delay_s:.1f}")

    def _orphans(self) -> set[int]:
        return self._orphan_tables.pids | set(orphans.living(self._sessions, self._pids()))

    def _pids(self) -> set[int]:
        return {generation.pid for generation in self._generations}
