"""The master's loop: signals first, then deaths, then accepts. Runs in the master.

It never reads a byte of a client and never blocks but in its one poll(2). What frees a place comes before what takes
one.
"""

from __future__ import annotations

import select
import signal
import time

from forkserver.ipc import control
from forkserver.ipc.signals import SignalPipe
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.logline import Log
from forkserver.master.acceptor import Acceptor
from forkserver.master.admission import peer_key
from forkserver.master.orders import Orders
from forkserver.master.pool import Pool
from forkserver.master.refusals import Refusals
from forkserver.protocol.messages import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_ACCEPT_BATCH = 64
_DRAIN_ACCEPTS = 4096  # the backlog of the listeners; under load it would never be seen empty
_TERM_AFTER_S, _KILL_AFTER_S = 1.0, 3.0


class Master:
    """What the composition root made, set in motion. ``available_fd`` is readable when a child has announced itself."""

    def __init__(  # noqa: PLR0913 - the parts of the master, each once
        self,
        *,
        listeners: list[socket.socket],
        orders: Orders,
        signals: SignalPipe,
        available_fd: int,
        pool: Pool,
        refusals: Refusals,
        log: Log,
    ) -> None:
        self._orders = orders
        self._signals = signals
        self._pool = pool
        self._hangups_polled = False
        self._refusals = refusals
        self._log = log
        self._poll = select.poll()
        self._acceptor = Acceptor(listeners, self._poll, log)
        for fd in (signals.fd, available_fd, orders.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._told_others = False
        self._drain_left: int | None = None
        self._last_signals: list[tuple[float, signal.Signals]] = []

    def run(self) -> None:
        """Serve until told to drain or stop, and the last child is gone."""
        while not self._acceptor.closed or self._pool:
            self._turn()
        self._orders.report_at = 0.0  # the last turn may have counted connections after its report
        self._orders.report(self._pool.state, time.monotonic())

    def _turn(self) -> None:
        now = time.monotonic()
        # By the same reading of the clock as the timeout below: a moment that passed in between would be slept through.
        self._keep_time(now)
        self._pool.replenish(now)
        self._acceptor.want(wanted=self._may_accept(now))
        self._poll_hangups(wanted=self._pool.any_stopped)
        ready = dict(self._poll.poll(self._timeout_ms(now)))
        now = time.monotonic()
        signalled = self._signals.fd in ready and self._signals.drain()
        self._pool.hear()  # before the burials: a child announces itself, then dies
        if signalled:
            self._pool.reap(now)
        if self._pool.any_stopped:
            self._pool.end_stopped()
        if self._orders.fileno() in ready:
            self._obey(self._orders.hear(), now)
        self._admit(ready, now)

    def _poll_hangups(self, *, wanted: bool) -> None:
        if wanted is self._hangups_polled:
            return
        if wanted:
            self._poll.register(self._pool.hangups.fileno(), select.POLLIN)
        else:
            self._poll.unregister(self._pool.hangups.fileno())
        self._hangups_polled = wanted

    def _may_accept(self, now: float) -> bool:
        return self._told_others and now >= self._acceptor.paused_until and self._pool.has_place(now)

    def _admit(self, ready: dict[int, int], now: float) -> None:
        listeners = self._acceptor.ready(ready)
        for listener in listeners:
            for _ in range(_ACCEPT_BATCH):
                accepted = self._acceptor.accept(listener, now) if self._may_accept(now) else None
                if accepted is None:
                    break
                self._deliver(*accepted, now)
        if self._drain_left is not None and self._acceptor.polled:
            self._drain_left -= _ACCEPT_BATCH
            if not listeners or self._drain_left <= 0:
                self._close(DRAINING)

    def _deliver(self, connection: socket.socket, host: str, port: int, now: float) -> None:
        peer = peer_key(host)
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._pool.admit(peer, now):
            self._refuse(connection, name, Status.TOO_MANY_CONNECTIONS, now)
        elif not self._pool.place(connection, peer, name, now):
            self._refuse(connection, name, Status.BUSY, now)
        else:
            connection.close()

    def _refuse(self, connection: socket.socket, name: str, status: Status, now: float) -> None:
        self._refusals.refuse(connection, status, now)
        self._log.event("refused", peer=name, status=status, reason=status.word)

    def _obey(self, word: bytes, now: float) -> None:
        if not word:
            # The supervisor is gone, and nobody would ever tell us to stop.
            self._poll.unregister(self._orders.fileno())
            self._log.event("drain", reason="the supervisor is gone")
        if word.startswith(control.OTHERS):
            self._pool.others = int(word.removeprefix(control.OTHERS))
            self._told_others = True
        elif word.startswith(control.PEERS):
            control.merge_peers(self._pool.admission.others, control.parse_peers(word))
        elif word == control.STOP:
            self._close(STOPPING)
            self._last_signals = [(now + _TERM_AFTER_S, signal.SIGTERM), (now + _KILL_AFTER_S, signal.SIGKILL)]
        elif word in (control.DRAIN, control.YIELD, b"") and self._drain_left is None:
            self._drain_left = _DRAIN_ACCEPTS
            self._told_others = True  # there may have been no time to, and the backlog is still ours
            self._pool.admission.disclose()
            self._orders.report_at = 0.0  # the next generation waits for the numbers
            if word == control.YIELD:
                self._close(DRAINING)
            else:  # now, not when the door closes: idle connections may have the very places the backlog waits for
                self._tell(DRAINING)

    def _close(self, phase: int) -> None:
        self._acceptor.close()
        self._tell(phase)
        self._pool.close()

    def _tell(self, phase: int) -> None:
        self._pool.set_phase(phase)
        self._pool.signal(signal.SIGUSR1)

    def _keep_time(self, now: float) -> None:
        if self._drain_left is None:
            self._orders.report(self._pool.state, now)
        else:  # each child that ends makes room for one of the next generation
            self._orders.report_draining(self._pool.state, self._pool.admission, now)
        self._refusals.expire(now)
        if now >= self._pool.look_at:
            self._pool.reap(now)
        self._pool.sweep(now)
        self._pool.review(now)
        if self._last_signals and now >= self._last_signals[0][0]:
            self._pool.signal(self._last_signals.pop(0)[1])

    def _timeout_ms(self, now: float) -> float | None:
        """Until something is due without an event; None: nothing is."""
        if self._drain_left is not None and self._acceptor.polled:
            return 0
        moments = [
            self._orders.report_at,
            self._acceptor.paused_until,
            self._refusals.next_moment,
            self._pool.moment,
            self._pool.look_at,
        ]
        moments += [moment for moment, _ in self._last_signals]
        due = [moment for moment in moments if moment is not None and moment > now]
        return (min(due) - now) * 1000 + 1 if due else None
