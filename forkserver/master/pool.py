"""The pool of children: spawn, feed, shrink and reap them. Runs in the master.

``children`` keeps the books, ``spawn`` forks and waits, and ``stopped`` continues stopped children without clients.
"""

from __future__ import annotations

import os
import signal

from forkserver.errors import ExitStatus, OperatorError, name_end
from forkserver.ipc.account import account, request_under_way
from forkserver.ipc.backoff import Backoff
from forkserver.ipc.handover import Handover
from forkserver.ipc.slots import SlotTable
from forkserver.kernel.hangup import Hangups
from forkserver.logline import Log
from forkserver.master import spawn
from forkserver.master.admission import Admission
from forkserver.master.children import Child, Children
from forkserver.master.stopped import StoppedChildren

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource
    import socket
    from collections.abc import Callable

    from forkserver.settings import Settings

    Taken = tuple[socket.socket, int, str]
    Work = Callable[[int, int, Taken | None], ExitStatus]

_IN_ORDER = frozenset(status.value for status in ExitStatus) - {ExitStatus.BUG}
_LOST_AFTER_S = 1.0
_SHRINK_EVERY_S = 1.0
_TOO_SOON_S = 1.0
"""A spare that ends earlier than this did not wait: the queue is out of order. Else it waits ``IDLE_CHILD_S``."""


class Pool:
    """The children of this master. ``now`` is always the loop's clock, in seconds.

    ``work(child, slot_index, first)`` is what a child runs. ``other_children`` is the number of children that other
    generations have: they count against ``max_children``, too. ``stopped`` are the stopped children.
    """

    def __init__(  # noqa: PLR0913 - the parts that the pool works with, each once
        self, *, settings: Settings, admission: Admission, handover: Handover, table: SlotTable, work: Work, log: Log
    ) -> None:
        """Make an empty pool. Raises OSError where no descriptor can be had."""
        self._spare = settings.spare
        self._receipts = settings.receipts
        self._max_children = settings.max_children
        self._admission = admission
        self._handover = handover
        self._table = table
        self._work = work
        self._log = log
        self._hangups = Hangups()
        self._children = Children(settings.max_children, table)
        self._reaper = spawn.Reaper(self._children)
        self.stopped = StoppedChildren(self._children, self._hangups)
        self._backoff = Backoff()
        # A connection can be lost, and a child be needless, only where children take connections from the queue.
        self._write_off_at = 0.0 if settings.spare or settings.connections_per_child > 1 else float("inf")
        self._shrink_at = self._write_off_at
        self._serving = True
        self._closed = False
        self._served = 0
        self.other_children = 0

    def __bool__(self) -> bool:
        """Whether any child lives."""
        return len(self._children) > 0

    @property
    def counts(self) -> tuple[int, int]:
        """The number of live children, and of connections served."""
        return len(self._children), self._served

    def has_room(self, now: float) -> bool:
        """Whether one more connection would get a child at once."""
        return self._children.idle > 0 or self._may_spawn(now)

    def admit(self, peer: str, now: float) -> bool:
        """Count one more connection of ``peer``; False: the peer has as many as it may have."""
        if self._admission.admit(peer):
            return True
        # Accepting a batch takes time. Count the connections that have ended meanwhile before refusing one.
        self.read_announcements()
        self.reap(now)
        return self._admission.admit(peer)

    def dispatch(self, connection: socket.socket, peer: str, name: str, now: float) -> bool:
        """Give an admitted connection to an idle child, or to a new one; the caller closes its own copy.

        False: no process can be had; the connection is the caller's again, and no longer counted.
        """
        number = self._children.open_connection(peer, now, name)
        if self._children.idle > 0 and self._handover.forward(connection, number, name):
            self._children.forwarded()
        elif not (self._may_spawn(now) and self._spawn((connection, number, name), now)):
            self._children.close_connection(number)
            self._admission.release(peer)
            return False
        # Where the kernel has no room for one more watch, the connection is served all the same. If its child is ever
        # stopped, that child keeps its place.
        self._hangups.watch(connection.fileno(), number)
        return True

    def replenish(self, now: float) -> None:
        """Keep ``spare`` children idle, and replace children that died with connections forwarded to them."""
        while self._children.idle < self._spare and self._may_spawn(now) and not self._closed:
            if not self._spawn(None, now):
                return

    def read_announcements(self) -> None:
        """Note which children are available again. Raises OperatorError where the queue is out of order for good."""
        if self._handover.broken:
            raise OperatorError("a child has shut down the queue of connections: it was taken over")
        for number, connection in self._handover.read_available():
            self._release(self._children.available(number, connection))

    def reap(self, now: float) -> None:
        """Reap dead children, release what they had, log each one's end; note who was stopped or continued."""
        for pid, wait_status, usage in self._reaper.changes(now):
            if os.WIFSTOPPED(wait_status):
                self.stopped.add(pid)
                continue
            self.stopped.discard(pid)
            if not os.WIFCONTINUED(wait_status):
                self._account_for(pid, os.waitstatus_to_exitcode(wait_status), usage, now)

    def _account_for(self, pid: int, code: int, usage: resource.struct_rusage, now: float) -> None:
        reaped = self._children.died(pid)
        if reaped is None:
            return  # A process that runs as PID 1 inherits orphans of other programs.
        child, connection = reaped
        self._release(connection.peer if connection else None)
        cause, slot, peer = name_end(code), child.slot, child.last_peer
        in_order = code in _IN_ORDER
        if not in_order:
            self._log.event(
                "died",
                **account(pid, cause, slot, peer=peer, usage=usage, now=now),
                **request_under_way(slot),
            )
        elif self._receipts:
            self._log.event("receipt", **account(pid, cause, slot, peer=peer, usage=usage, now=now))
        slot.free()
        self._learn_from(child, now, in_order=in_order)

    def _learn_from(self, child: Child, now: float, *, in_order: bool) -> None:
        """Back off when children die before they serve anything."""
        if child.slot.requests or child.slot.sent_bytes:
            self._backoff.reset()
        elif not in_order:
            self._pause("a child died before it served anything", now)
        elif not child.first and self._serving and now - child.spawned_at < _TOO_SOON_S:
            self._pause("a child that was to wait for connections did not wait", now)

    def set_phase(self, phase: int) -> None:
        """Tell every child to finish (DRAINING) or to break off (STOPPING)."""
        self._table.phase = phase
        self._serving = False
        self.signal(signal.SIGUSR1)  # after the phase is set: a child reads the phase when the signal comes

    def close(self) -> None:
        """Spawn no more, and let idle children end."""
        if not self._closed:
            self._closed = True
            self._handover.close()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every child. A child keeps its PID until it is reaped, so no other process can be hit."""
        for pid in self._children.alive:
            os.kill(pid, number)

    def run_timers(self, now: float) -> None:
        """Do what is due without an event: reap, write off lost connections, shrink."""
        if now >= self._reaper.due_at:
            self.reap(now)
        if self._closed:
            return
        if now >= self._write_off_at and self._handover.empty:
            self._write_off_at = now + _LOST_AFTER_S
            self._write_off(now)
        if now >= self._shrink_at:
            self._shrink_at = now + _SHRINK_EVERY_S
            self._shrink()

    @property
    def timers(self) -> tuple[float, float]:
        """When forks are possible again after a back-off, and when to reap."""
        return self._backoff.until, self._reaper.due_at

    def _write_off(self, now: float) -> None:
        """Release the connections that no child has: a child can be killed before it notes which one it took."""
        if not self.stopped.any_waits:
            for peer in self._children.write_off(now - _LOST_AFTER_S):
                self._release(peer)

    def _shrink(self) -> None:
        """Dismiss half of the idle children that were not needed for a second, so that the pool shrinks after a burst.

        Even the least load wakes each idle child in its turn, so that none would ever wait for ``IDLE_CHILD_S`` and
        end by itself. The last one is not dismissed, and does wait so long.
        """
        surplus = self._children.unneeded() - max(self._spare, 1)
        for _ in range((surplus + 1) // 2):
            if not self._handover.dismiss():
                return
            self._children.dismissed()

    def _may_spawn(self, now: float) -> bool:
        return len(self._children) + self.other_children < self._max_children and now >= self._backoff.until

    def _spawn(self, first: Taken | None, now: float) -> bool:
        child = self._children.prepare(first[1] if first else None)
        if first:
            child.slot.take(first[1], first[2])  # written before the fork, it costs the child no page of its own
        try:
            pid = spawn.spawn(lambda: self._work(child.number, child.slot_index, first), self._log)
        except OSError as error:
            self._children.spawn_failed(child)
            self._pause(f"fork failed: {error.strerror}", now)
            return False
        child.spawned_at = now
        self._children.spawned(child, pid)
        return True

    def _pause(self, reason: str, now: float) -> None:
        self._log.event("throttle", reason=reason, pause_s=f"{self._backoff.fail(now):.1f}")

    def _release(self, peer: str | None) -> None:
        if peer is not None:
            self._served += 1
            self._admission.release(peer)
