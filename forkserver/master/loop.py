"""The master's loop: signals first, then deaths, then accepts. Runs in the master.

It never reads a byte of a client and never blocks but in its one poll(2). What frees a place is looked at before what takes one.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import time

from forkserver import control
from forkserver.handover import Handover
from forkserver.logline import Log
from forkserver.master import spawn
from forkserver.master.admission import Admission, peer_key
from forkserver.master.children import Children
from forkserver.master.door import Door
from forkserver.master.refusals import Refusals
from forkserver.master.throttle import Throttle
from forkserver.master.verdict import judge
from forkserver.protocol.messages import Status
from forkserver.signals import SignalPipe
from forkserver.slots import DRAINING, STOPPING, SlotTable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.errors import ExitStatus
    from forkserver.settings import Settings

    Taken = tuple[socket.socket, int, str]
    Work = Callable[[int, int, Taken | None], ExitStatus]

_ACCEPT_BATCH = 64
_BACKLOG = 4096
_LOST_AFTER_S = 5.0
_TERM_AFTER_S, _KILL_AFTER_S = 1.0, 3.0


class Master:
    """``work(child, slot_index, first)`` is what a child does; the rest is what the composition root made."""

    def __init__(  # noqa: PLR0913 - the parts of the master, each once
        self,
        settings: Settings,
        listeners: list[socket.socket],
        channel: socket.socket,
        signals: SignalPipe,
        handover: Handover,
        table: SlotTable,
        work: Work,
        identity: dict[str, str],
        log: Log,
    ) -> None:
        self._spare = settings.spare
        self._channel = channel
        self._signals = signals
        self._handover = handover
        self._table = table
        self._work = work
        self._log = log
        self._children = Children(settings.max_children, table)
        self._admission = Admission(settings.max_per_peer)
        self._refusals = Refusals(identity)
        self._throttle = Throttle()
        self._poll = select.poll()
        self._door = Door(listeners, self._poll)
        for fd in (signals.fd, handover.available_fd, channel.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._drain_left: int | None = None
        self._sweep_at: float | None = None
        self._last_signals: list[tuple[float, signal.Signals]] = []

    def run(self) -> None:
        """Serve until told to drain or stop, and the last child is gone."""
        while not self._door.closed or self._children:
            self._turn()

    def _turn(self) -> None:
        now = time.monotonic()
        self._replenish(now)
        self._door.want(self._may_accept(now))
        ready = dict(self._poll.poll(self._timeout_ms(now)))
        now = time.monotonic()
        signalled = self._signals.drain() if self._signals.fd in ready else ()
        # Announcements before deaths: a child announces itself, then dies.
        self._hear_available()
        if signalled:
            self._bury(now)
        if self._channel.fileno() in ready:
            self._obey(now)
        self._admit(ready, now)
        self._keep_time(now)

    # -- children

    def _may_spawn(self, now: float) -> bool:
        return not self._children.full and now >= self._throttle.until

    def _spawn(self, first: Taken | None, now: float) -> bool:
        child = self._children.prepare(first[1] if first else None)
        try:
            pid = spawn.spawn(lambda: self._work(child.number, child.slot_index, first), self._log)
        except OSError as error:
            self._children.unborn(child)
            self._pause(now, f"fork failed: {error.strerror}")
            return False
        self._children.born(child, pid)
        return True

    def _replenish(self, now: float) -> None:
        # Below zero a forwarded connection waits for a child that died: then even `spare = 0` spawns one.
        while self._children.idle < self._spare and self._may_spawn(now) and not self._door.closed:
            if not self._spawn(None, now):
                return

    def _hear_available(self) -> None:
        for number, connection in self._handover.read_available():
            self._release(self._children.available(number, connection))

    def _bury(self, now: float) -> None:
        for death in spawn.reap():
            buried = self._children.died(death.pid)
            if buried is None:
                continue  # as PID 1 of a container we reap what we did not make
            child, peer = buried
            self._release(peer)
            slot = child.slot
            served = slot.requests or slot.sent_bytes
            verdict = judge(death.wait_status)
            if not verdict.ordinary:
                self._sweep_at = self._sweep_at or now + _LOST_AFTER_S
                self._log.event(
                    "died", pid=death.pid, cause=verdict.word, requests=slot.requests, sent=slot.sent_bytes,
                    cpu_ms=int((death.usage.ru_utime + death.usage.ru_stime) * 1000),
                )  # fmt: skip
            if served:
                self._throttle.forgive()
            elif verdict.penalty:
                self._pause(now, "a child died before it served anything")

    def _pause(self, now: float, reason: str) -> None:
        self._log.event("throttle", reason=reason, pause_s=f"{self._throttle.penalise(now):.1f}")

    def _release(self, peer: str | bytes | None) -> None:
        if peer is not None:
            self._admission.release(peer)

    # -- connections

    def _may_accept(self, now: float) -> bool:
        return now >= self._door.paused_until and (self._children.idle > 0 or self._may_spawn(now))

    def _admit(self, ready: dict[int, int], now: float) -> None:
        listeners = self._door.ready(ready)
        for listener in listeners:
            for _ in range(_ACCEPT_BATCH):
                accepted = self._door.accept(listener, now) if self._may_accept(now) else None
                if accepted is None:
                    break
                self._deliver(*accepted, now)
        if self._drain_left is not None and self._door.polled:
            self._drain_left -= _ACCEPT_BATCH
            if not listeners or self._drain_left <= 0:
                self._close_door(DRAINING)

    def _deliver(self, connection: socket.socket, host: str, port: int, now: float) -> None:
        peer = peer_key(host)
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._admission.admit(peer):
            self._refuse(connection, name, Status.TOO_MANY_CONNECTIONS, now)
            return
        number = self._children.open_connection(peer, now)
        if self._children.idle > 0 and self._handover.forward(connection, number, name):
            self._children.forwarded()
        elif not self._may_spawn(now) or not self._spawn((connection, number, name), now):
            self._release(self._children.close_connection(number))
            self._refuse(connection, name, Status.BUSY, now)
            return
        connection.close()

    def _refuse(self, connection: socket.socket, name: str, status: Status, now: float) -> None:
        self._refusals.refuse(connection, status, now)
        self._log.event("refused", peer=name, status=status, reason=status.word)

    # -- the supervisor's word, and time

    def _obey(self, now: float) -> None:
        word = self._channel.recv(control.MAX_PACKET_BYTES)
        if not word:
            # The supervisor is gone, and nobody will ever tell us to stop.
            self._poll.unregister(self._channel.fileno())
            self._log.event("drain", reason="the supervisor is gone")
        if word == control.STOP:
            self._close_door(STOPPING)
            self._last_signals = [(now + _TERM_AFTER_S, signal.SIGTERM), (now + _KILL_AFTER_S, signal.SIGKILL)]
        elif self._drain_left is None:
            self._drain_left = _BACKLOG

    def _close_door(self, wish: int) -> None:
        """No more connections; tell the children. The wish first, then the tap: a child reads the one when it feels the other."""
        self._door.close()
        self._handover.close()
        self._table.wish = wish
        self._signal_children(signal.SIGUSR1)

    def _signal_children(self, number: signal.Signals) -> None:
        # A child keeps its PID until we reap it: these signals cannot hit a stranger.
        for pid in self._children.pids:
            os.kill(pid, number)

    def _keep_time(self, now: float) -> None:
        self._refusals.expire(now)
        if self._last_signals and now >= self._last_signals[0][0]:
            self._signal_children(self._last_signals.pop(0)[1])
        if self._sweep_at is not None and now >= self._sweep_at and (self._door.closed or self._handover.empty):
            self._sweep_at = None
            for number in self._children.lost(now - _LOST_AFTER_S):
                self._release(self._children.close_connection(number))

    def _timeout_ms(self, now: float) -> float | None:
        """Until the next moment that something is due without an event; None: there is none."""
        if self._drain_left is not None and self._door.polled:
            return 0
        moments = [self._throttle.until, self._door.paused_until, self._refusals.next_moment, self._sweep_at]
        moments += [moment for moment, _ in self._last_signals]
        due = [moment for moment in moments if moment is not None and moment > now]
        return (min(due) - now) * 1000 + 1 if due else None
