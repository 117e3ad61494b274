"""Children in the large: born in time, never too many, their place given back when they die. Runs in the master.

The mechanism to the bookkeeping in ``children`` and the policy in ``throttle``; forks and waits through ``spawn``
alone.
"""

from __future__ import annotations

import os
import signal

from forkserver.errors import OperatorError
from forkserver.ipc.account import Life, account, account_of_cut
from forkserver.ipc.backoff import Backoff
from forkserver.ipc.handover import Handover
from forkserver.ipc.slots import SlotTable
from forkserver.kernel.hangup import Hangups
from forkserver.logline import Log
from forkserver.master import spawn
from forkserver.master.admission import Admission
from forkserver.master.children import Children
from forkserver.master.exitpolicy import exit_policy

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from forkserver.errors import ExitStatus
    from forkserver.settings import Settings

    Taken = tuple[socket.socket, int, str]
    Work = Callable[[int, int, Taken | None], ExitStatus]

_LOST_AFTER_S = 1.0
_REVIEW_S = 1.0
_FEW = 64
_LOOK_EVERY_S = 0.5
"""How often to look at all children, where they are not few, for one that died without a word."""
_TOO_SOON_S = 1.0
"""A child that waits in vain waits for ``handover.IDLE_CHILD_S``; sooner it ends where the queue is out of order."""


class Pool:
    """``work(child, slot_index, first)`` is what a child does. ``now`` is always the loop's clock, in seconds."""

    def __init__(self, settings: Settings, handover: Handover, table: SlotTable, work: Work, log: Log) -> None:
        """Raises OSError where no descriptor can be had."""
        self._spare = settings.spare
        self._receipts = settings.receipts
        self._handover = handover
        self._table = table
        self._work = work
        self.hangups = Hangups()
        """For the poll set while ``any_stopped``. At other times each end of a connection would only wake the loop."""
        self._log = log
        self._children = Children(settings.max_children, table)
        self._backoff = Backoff()
        # Only where children take connections from the queue can one get lost there.
        self._sweep_at = 0.0 if settings.spare or settings.connections_per_child > 1 else float("inf")
        self._review_at = self._sweep_at
        self._looked_at = 0.0
        self.look_at = float("inf")
        """When to look for the dead without a signal."""
        self._serving = True
        self._closed = False
        self._max_children = settings.max_children
        self._served = 0
        self.admission = Admission(settings.peer_limit)
        self.others = 0
        """Children of other generations, which count against ``max_children``, too."""

    def __bool__(self) -> bool:
        """Whether any child lives."""
        return len(self._children) > 0

    @property
    def state(self) -> tuple[int, int]:
        """How many children live, and how many connections were served."""
        return len(self._children), self._served

    def has_place(self, now: float) -> bool:
        """Whether one more connection would be served at once."""
        return self._children.idle > 0 or self._may_spawn(now)

    def admit(self, peer: str, now: float) -> bool:
        """Count one more connection of ``peer``, if it may have one."""
        if self.admission.admit(peer):
            return True
        # While a batch is accepted, which takes its time, others end: nobody is refused for those.
        self.hear()
        self.reap(now)
        return self.admission.admit(peer)

    def place(self, connection: socket.socket, peer: str, name: str, now: float) -> bool:
        """Give an admitted connection to an idle child, or to a new one; the caller closes its own copy.

        False: no process can be had; the connection is the caller's again, and counted no longer.
        """
        number = self._children.open_connection(peer, now, name)
        if self._children.idle > 0 and self._handover.forward(connection, number, name):
            self._children.forwarded()
        elif not (self._may_spawn(now) and self._spawn((connection, number, name), now)):
            self._children.close_connection(number)
            self.admission.release(peer)
            return False
        # Where the kernel has no room for it, the connection is served all the same. If its child is ever stopped, that
        # child keeps its place.
        self.hangups.watch(connection.fileno(), number)
        return True

    def replenish(self, now: float) -> None:
        """Keep ``spare`` children idle. Below zero a forwarded connection waits for a child that died."""
        while self._children.idle < self._spare and self._may_spawn(now) and not self._closed:
            if not self._spawn(None, now):
                return

    def hear(self) -> None:
        """Take note of the children that are available again. Raises OperatorError where none ever will be."""
        if self._handover.broken:
            raise OperatorError("a child has shut down the queue of connections: it was taken over")
        for number, connection in self._handover.read_available():
            self._release(self._children.available(number, connection))

    def reap(self, now: float) -> None:
        """Reap the dead, give back what they had, write each one's receipt. Note who was stopped or continued.

        A child that was killed or stopped has not said so. Where there are many, look at all only once in a while.
        """
        for change in self._changes(now):
            if isinstance(change, spawn.Pause):
                self._children.note_pause(change.pid, stopped=change.stopped)
            else:
                self._reap(change, now)

    def _reap(self, death: spawn.Death, now: float) -> None:
        reaped = self._children.died(death.pid)
        if reaped is None:
            return  # as PID 1 of a container we reap what we did not make
        child, connection = reaped
        self._release(connection.peer if connection else None)
        policy = exit_policy(death.wait_status)
        life = Life(death.pid, policy.word, child.slot, peer=child.last_peer, usage=death.usage, now=now)
        if not policy.ordinary:
            self._log.event("died", **account_of_cut(life), reason=child.doom or "-")
        elif self._receipts:
            self._log.event("receipt", **account(life))
        child.slot.free()
        if child.slot.requests or child.slot.sent_bytes:
            self._backoff.reset()
        elif child.doom:
            pass  # killed by this master: no sign that children cannot serve
        elif policy.penalty:
            self._pause("a child died before it served anything", now)
        elif not child.first and self._serving and now - child.born_at < _TOO_SOON_S:
            self._pause("a child that was to wait for connections did not wait", now)

    def _changes(self, now: float) -> Iterator[spawn.Death | spawn.Pause]:
        many = len(self._children) > _FEW
        if many:
            for pid in self._children.ending():
                if change := spawn.reap_one(pid):
                    yield change
        if many and now < self._looked_at + _LOOK_EVERY_S:
            self.look_at = self._looked_at + _LOOK_EVERY_S
        else:
            self._looked_at, self.look_at = now, float("inf")
            yield from spawn.reap()

    @property
    def any_stopped(self) -> bool:
        """Whether any child is stopped: then ``end_stopped`` is to be called whenever ``hangups`` is readable."""
        return self._children.any_stopped

    def end_stopped(self) -> None:
        """Kill the stopped children whose client has left, or that have none. No other signal reaches such a child."""
        for connection, gone in self.hangups.read():
            self._children.note_hangup(connection, gone=gone)
        # First what children have noted, then what is queued: a child that takes a connection in between is suspected
        # of hiding it until the next call. The other way round, one that hides a connection would not be.
        unclaimed = self._children.unclaimed()
        for child in self._children.stopped_without_client(self._handover.taken(unclaimed)):
            os.kill(child.pid, signal.SIGKILL)

    def set_phase(self, phase: int) -> None:
        """Say what is wanted of the children; a signal must follow: a child reads the one when it feels the other."""
        self._table.phase = phase
        self._serving = False

    def close(self) -> None:
        """No child more, and an end to those that wait."""
        if not self._closed:
            self._closed = True
            self._handover.close()

    def signal(self, number: signal.Signals) -> None:
        """Signal every child. Each keeps its PID until it is reaped: no stranger can be hit."""
        for pid in self._children.pids:
            os.kill(pid, number)

    def sweep(self, now: float) -> None:
        """Once in a while, give back connections that nobody has: a child that was killed may have taken one unseen."""
        if now < self._sweep_at or self._closed or not self._handover.empty:
            return
        self._sweep_at = now + _LOST_AFTER_S
        for peer in self._children.write_off(now - _LOST_AFTER_S):
            self._release(peer)

    def review(self, now: float) -> None:
        """Once in a while, dismiss half of those that were not needed all the while: a crowd leaves no crowd behind.

        Under the least load each of them is woken in its turn, and none ever waits for ``handover.IDLE_CHILD_S``. One
        stays for that long.
        """
        if now < self._review_at or self._closed:
            return
        self._review_at = now + _REVIEW_S
        surplus = self._children.unneeded() - max(self._spare, 1)
        for _ in range((surplus + 1) // 2):
            if not self._handover.dismiss():
                return
            self._children.dismissed()

    @property
    def moment(self) -> float:
        """When something may become possible without an event."""
        return self._backoff.until

    def _may_spawn(self, now: float) -> bool:
        return len(self._children) + self.others < self._max_children and now >= self._backoff.until

    def _spawn(self, first: Taken | None, now: float) -> bool:
        child = self._children.prepare(first[1] if first else None)
        if first:
            child.slot.take(first[1], first[2])  # here it costs the child no page of its own
        try:
            pid = spawn.spawn(lambda: self._work(child.number, child.slot_index, first), self._log)
        except OSError as error:
            self._children.unborn(child)
            self._pause(f"fork failed: {error.strerror}", now)
            return False
        child.born_at = now
        self._children.born(child, pid)
        return True

    def _pause(self, reason: str, now: float) -> None:
        self._log.event("throttle", reason=reason, pause_s=f"{self._backoff.fail(now):.1f}")

    def _release(self, peer: str | None) -> None:
        if peer is not None:
            self._served += 1
            self.admission.release(peer)
