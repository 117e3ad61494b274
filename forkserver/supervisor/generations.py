"""The generations of masters: start one, let it take over, reap it, replace it if it died. Runs in the supervisor."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable, Iterable

from forkserver.errors import OperatorError, name_end
from forkserver.ipc import control
from forkserver.ipc.account import account, request_under_way
from forkserver.ipc.backoff import Backoff
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.logline import Log
from forkserver.settings import Settings
from forkserver.supervisor import listener, logoutput, orphans
from forkserver.supervisor.generation import Generation
from forkserver.supervisor.listener import Listeners
from forkserver.supervisor.sharedtables import OrphanTables

Finish = Callable[[OperatorError | None], None]

MAX_FAILED_STARTS = 10
"""Starts that fail in a row, over some twenty seconds, before the supervisor ends, so that its starter learns of it."""
_SOUND_AFTER_S = 10.0
"""A master that ran for so long has worked: its death begins a new row of failures, without delay."""


class Generations:
    """All masters that live. At most one accepts; at most one more, the candidate of a reload, starts to replace it.

    All other masters retire: they accept no more and let their children finish. ``now`` is always the supervisor's
    monotonic clock, in seconds. ``start_at`` is the moment at which ``start`` must be called, None: never.
    """

    def __init__(self, settings: Settings, listeners: Listeners, log: Log) -> None:
        self.settings = settings
        self._listeners = listeners
        self._log = log
        self._generations: list[Generation] = []
        self._candidate: Generation | None = None
        self._finish: Finish
        """The reload of the candidate calls this function when the reload has succeeded or failed."""
        self._to_finish: list[Finish] = []
        """Reloads whose master is ready, but the old masters have not yet confirmed that they accept no more."""
        self._count = 0
        self._backoff = Backoff(first_s=0.0)
        self._started_at = 0.0
        self._was_ready = False
        self._failed_starts = 0
        self._served_before = 0
        """Connections that ended generations served, so that the reported number never falls."""
        self._sessions: set[int] = set()
        """Sessions, setsid(2), of all masters so far: orphans are known by their session."""
        self._orphan_tables = OrphanTables()
        self._orphan_phase = DRAINING
        self.start_at: float | None = None
        self.shutting_down = False

    def __bool__(self) -> bool:
        """Whether a master lives, or a child of a dead master."""
        return bool(self._generations or self._orphans())

    def start(self, now: float) -> None:
        """Start a master with the settings in force.

        Raises OperatorError if the first master, or too many in a row, cannot be started.
        """
        self.start_at = None
        self._started_at = now
        try:
            self._launch(self.settings, self._listeners)
        except OperatorError as error:
            self._schedule_start(str(error), now)

    def reload(self, settings: Settings, *, adopted: bool, finish: Finish) -> None:
        """Start a master with new settings, which takes over once it is ready; then call ``finish``.

        Nothing changes until the new master is ready. ``finish`` gets an error if the reload failed, and None when the
        old master accepts no more. ``adopted`` means that the sockets stay, whatever the settings say. Raises
        OperatorError, and does not call ``finish``, if the master cannot be started.
        """
        if self.shutting_down:
            raise OperatorError("the server is being stopped; start it again with the new settings")
        if self._candidate:
            raise OperatorError("another reload is under way; try again when it has ended")
        listeners = self._listeners if adopted else listener.bind(settings, self._listeners)
        try:
            self._candidate = self._launch(settings, listeners)
        except OperatorError:
            listener.close_all_but(listeners, self._listeners)
            raise
        self._finish = finish

    def register(self, poll: select.poll) -> None:
        """Add the masters' channels to a poll set."""
        for generation in self._generations:
            generation.register(poll)

    def read_messages(self, now: float) -> None:
        """Read what the masters sent; a master that became ready takes over. Raises OperatorError as ``start`` does."""
        for generation in self._generations:
            became_ready = self._read_from(generation)
            if generation.bad_message:
                self._replace_stuck(generation, f"the master sent what no master sends: {generation.bad_message}", now)
            # A master that retires, or was told to end, may report ready too late: it must not take over any more.
            elif became_ready and not generation.retiring and not self.shutting_down:
                self._take_over(generation)

    def send_messages(self) -> None:
        """Send the masters what is due; finish the reloads after which the old masters accept no more.

        The limits are the server's, so the connections and children of all other masters count against the limits of
        the master that accepts. Orphans count as children, but for no peer.
        """
        # A new master accepts only once it has all counts.
        all_known = all(generation.counts_known for generation in self._generations)
        for generation in self._generations:
            generation.flush()
            if all_known and generation.ready and not generation.retiring:
                generation.send_totals(self._children - generation.children, self._connections)
        # When all counts are known, the retiring masters have accepted their last connection.
        while all_known and self._to_finish:
            self._to_finish.pop()(None)

    def check_heartbeats(self, now: float) -> None:
        """Kill and replace masters that were silent for too long; call this every ``control.HEARTBEAT_S``.

        Raises OperatorError as ``start`` does.
        """
        for generation in self._generations:
            if complaint := generation.check_heartbeat():
                self._replace_stuck(generation, complaint, now)

    def reap(self, now: float) -> None:
        """Reap dead masters and have them replaced; reap orphans, and continue those that were stopped.

        Raises OperatorError as ``start`` does.
        """
        for generation in list(self._generations):
            exit_word = generation.poll_exit()
            if exit_word is not None:
                self._remove(generation)
                self._handle_loss(generation, generation.complaint or f"the master ended with {exit_word}", now)
        for pid, wait_status, usage in orphans.reap(self._pids()):
            slot, served = self._orphan_tables.remove(pid)
            # A compromised child can write any number, so the number is capped.
            self._served_before += min(served, self.settings.connections_per_child)
            cause = name_end(os.waitstatus_to_exitcode(wait_status))
            self._log.event("orphan", **account(pid, cause, slot, usage=usage, now=now), **request_under_way(slot))
        # A stopped child cannot notice that its client has left, and only a master watches for that.
        orphans.send_signal(self._orphan_tables.pids.intersection(orphans.stopped()), signal.SIGCONT)

    def shut_down(self, order: bytes) -> None:
        """Start no more masters, and send the living ones ``order``: DRAIN or STOP. Orphans drain already, or stop.

        The masters have copies of the sockets: they finish the backlog, then close them, and the kernel refuses.
        """
        if not self.shutting_down:
            if self.start_at is not None:
                self.start_at = None
                with contextlib.suppress(OperatorError):
                    self._launch(self.settings, self._listeners)  # the backlog has no master
            self.shutting_down = True
            self._fail_reload("the server is being stopped")
            listener.close_all_but(self._listeners, {})
        for generation in self._generations:
            generation.send_order(order)
        if order == control.STOP:
            self._orphan_phase = STOPPING
            for table in self._orphan_tables.tables:
                table.set_phase(STOPPING)
            self.signal_orphans(signal.SIGUSR1)

    def kill_masters(self) -> None:
        """Kill all masters; their children become orphans."""
        for generation in self._generations:
            generation.kill()

    def signal_orphans(self, number: signal.Signals) -> None:
        """Signal the children of dead masters."""
        orphans.send_signal(self._orphans(), number)

    @property
    def reloading(self) -> bool:
        """Whether a master with new settings is starting."""
        return self._candidate is not None

    @property
    def log_is_old(self) -> bool:
        """Whether the master that accepts writes its log to another file than a master that is started now would."""
        current = logoutput.identify()
        return any(not each.retiring and each.log_id != current for each in self._generations)

    @property
    def serving(self) -> bool:
        """Whether a master accepts, or will as soon as it knows the connections of the others."""
        return self._accepting is not None

    @property
    def tables(self) -> dict[str, int]:
        """Name and descriptor of each shared table whose master or children may live."""
        tables = [generation.table for generation in self._generations if generation.table]
        return {table.name: table.fd for table in [*tables, *self._orphan_tables.tables]}

    @property
    def addresses(self) -> str:
        """The addresses that are listened on, separated by commas."""
        return ",".join(map(listener.describe, self._listeners.values()))

    @property
    def status(self) -> str:
        """One line for people: systemd shows it, and ``forkserver status``."""
        if self.shutting_down:
            return f"draining, for {self.settings.drain_s:.0f} s at most"
        accepting = self._accepting
        if not accepting:
            return "starting a master"
        served = self._served_before + sum(generation.served for generation in self._generations)
        return (
            f"serving {self.settings.root} on {self.addresses}, "
            f"version {accepting.version}, generation {accepting.number}, "
            f"{self._children} of {self.settings.max_children} children, {served:,} served"
        )

    @property
    def _children(self) -> int:
        """Number of all children, orphans included."""
        return len(self._orphan_tables.pids) + sum(generation.children for generation in self._generations)

    @property
    def _accepting(self) -> Generation | None:
        return next((each for each in self._generations if each.ready and not each.retiring), None)

    def _launch(self, settings: Settings, listeners: Listeners) -> Generation:
        self._count += 1
        listener.set_options(listeners, settings)
        generation = Generation(self._count, settings, listeners)
        self._generations.append(generation)
        for other in self._generations:
            generation.unsent_peers.update(other.peers)
        self._sessions.add(generation.pid)
        return generation

    def _take_over(self, generation: Generation) -> None:
        """Make ``generation``, which became ready, the one that accepts; all others retire."""
        self._was_ready = True
        self._failed_starts = 0
        for other in self._generations:
            # A candidate does not retire: it will take over from ``generation``.
            if other not in (generation, self._candidate) and not other.retiring:
                other.retire(generation)
        if generation is self._candidate:
            listener.close_all_but(self._listeners, generation.listeners)
            self.settings, self._listeners = generation.settings, generation.listeners
            self._log.form = logoutput.choose_form(self.settings.log_format)
            self._candidate = None
            self.start_at = None  # the candidate also replaces a master that died during the reload
            self._to_finish.append(self._finish)
        self._log.event(
            "ready",
            address=self.addresses,
            master_pid=generation.pid,
            root=self.settings.root,
            generation=generation.number,
            version=generation.version,
        )

    def _fail_reload(self, complaint: str) -> None:
        """End the reload under way, if any."""
        if self._candidate:
            listener.close_all_but(self._candidate.listeners, self._listeners)
            self._candidate = None
            self._finish(OperatorError(complaint))

    def _read_from(self, generation: Generation) -> bool:
        became_ready, changed = generation.read_messages()
        self._mark_changed(changed)
        return became_ready

    def _mark_changed(self, peers: Iterable[str]) -> None:
        """Mark the counts of ``peers`` as changed, so that the next ``send_messages`` sends them."""
        for generation in self._generations:
            if not generation.retiring:
                generation.unsent_peers.update(peers)

    def _connections(self, peer: str) -> int:
        """Return the connections of ``peer`` with retiring masters, which alone report their counts per peer."""
        return sum(generation.peers.get(peer, 0) for generation in self._generations)

    def _remove(self, generation: Generation) -> None:
        """Remove a dead master; its children become orphans."""
        self._read_from(generation)  # the last messages; "ready" has no effect any more
        self._generations.remove(generation)
        self._served_before += generation.served
        self._mark_changed(generation.peers)
        generation.close()
        if generation.table:
            left = orphans.children_among(generation.table.pids(), generation.pid)
            # A child that was forked just before the master's death may have no row yet.
            left.update(orphans.living({generation.pid}, self._pids()))
            # As the children of a master that retires. The master may have taken the notice of a stop: continue all.
            generation.table.set_phase(self._orphan_phase)
            orphans.send_signal(left, signal.SIGUSR1)
            orphans.send_signal(left, signal.SIGCONT)
            self._orphan_tables.add(generation.table, left)

    def _replace_stuck(self, generation: Generation, complaint: str, now: float) -> None:
        self._log.event("master-stuck", pid=generation.pid, reason=complaint)
        generation.kill()
        self._handle_loss(generation, complaint, now)
        generation.abandon()

    def _handle_loss(self, generation: Generation, complaint: str, now: float) -> None:
        """Fail the reload whose candidate was lost, or schedule a start if the lost master accepted."""
        if generation is self._candidate:
            self._fail_reload(complaint)
        elif not generation.retiring and not self.shutting_down:
            self._schedule_start(complaint, now, pid=generation.pid)

    def _schedule_start(self, complaint: str, now: float, pid: int = 0) -> None:
        if not self._was_ready:
            raise OperatorError(complaint)
        self._failed_starts += 1
        if self._failed_starts > MAX_FAILED_STARTS:
            raise OperatorError(
                f"no master became ready in {MAX_FAILED_STARTS} starts: {complaint}; remove the cause and restart"
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
