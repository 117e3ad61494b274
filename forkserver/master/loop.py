"""The master's loop: signals first, then deaths, then accepts. Runs in the master.

The loop never reads a byte of a client, and blocks only in its one poll(2). What frees a place comes before what takes
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
from forkserver.master.admission import Admission, peer_key
from forkserver.master.channel import ControlChannel
from forkserver.master.pool import Pool
from forkserver.master.refusals import Refusals
from forkserver.protocol.messages import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

_ACCEPT_BATCH = 64
_TERM_AFTER_S, _KILL_AFTER_S = 1.0, 3.0


class Master:
    """Run the parts that the composition root made. ``available_fd`` is readable when a child has announced itself."""

    def __init__(  # noqa: PLR0913 - the parts of the master, each once
        self,
        *,
        listeners: list[socket.socket],
        channel: ControlChannel,
        signals: SignalPipe,
        available_fd: int,
        admission: Admission,
        pool: Pool,
        refusals: Refusals,
        log: Log,
    ) -> None:
        self._channel = channel
        self._signals = signals
        self._admission = admission
        self._pool = pool
        self._refusals = refusals
        self._log = log
        self._poll = select.poll()
        self._acceptor = Acceptor(listeners, self._poll, log)
        for fd in (signals.fd, available_fd, channel.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._hangups_polled = False
        self._knows_others = False  # accept nothing before OTHERS has come: the limits count them, too
        self._draining = False
        self._last_signals: list[tuple[float, signal.Signals]] = []

    def run(self) -> None:
        """Serve until told to drain or stop, and until the last child is gone."""
        while not self._acceptor.closed or self._pool:
            self._turn()
        self._channel.report_at = 0.0  # the last turn may have counted connections after its report
        self._channel.report(self._pool.counts, time.monotonic())

    def _turn(self) -> None:
        now = time.monotonic()
        # Use one clock reading for the timers and for the timeout. Otherwise a timer that expires in between is missed
        # until the next event.
        self._run_timers(now)
        self._pool.replenish(now)
        self._acceptor.poll_listeners(wanted=self._may_accept(now))
        self._poll_hangups(wanted=bool(self._pool.stopped))
        ready = dict(self._poll.poll(self._timeout_ms(now)))
        now = time.monotonic()
        signalled = self._signals.fd in ready and self._signals.drain()
        # Read the announcements before reaping: a child announces itself, then exits.
        self._pool.read_announcements()
        if signalled:
            self._pool.reap(now)
        if self._pool.stopped:
            self._pool.stopped.continue_without_client()
        if self._channel.fileno() in ready:
            self._handle(self._channel.receive(), now)
        self._accept(ready, now)

    def _poll_hangups(self, *, wanted: bool) -> None:
        if wanted is self._hangups_polled:
            return
        if wanted:
            self._poll.register(self._pool.stopped, select.POLLIN)
        else:
            self._poll.unregister(self._pool.stopped)
        self._hangups_polled = wanted

    def _may_accept(self, now: float) -> bool:
        return self._knows_others and now >= self._acceptor.paused_until and self._pool.has_room(now)

    def _accept(self, ready: dict[int, int], now: float) -> None:
        for listener in self._acceptor.ready(ready):
            for _ in range(_ACCEPT_BATCH):
                accepted = self._acceptor.accept(listener, now) if self._may_accept(now) else None
                if accepted is None:
                    break
                self._admit(*accepted, now)
        if self._acceptor.backlog_accepted:
            self._close(DRAINING)

    def _admit(self, connection: socket.socket, host: str, port: int, now: float) -> None:
        peer = peer_key(host)
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if not self._pool.admit(peer, now):
            self._refuse(connection, name, Status.TOO_MANY_CONNECTIONS, now)
        elif not self._pool.dispatch(connection, peer, name, now):
            self._refuse(connection, name, Status.BUSY, now)
        else:
            connection.close()

    def _refuse(self, connection: socket.socket, name: str, status: Status, now: float) -> None:
        self._refusals.refuse(connection, status, now)
        self._log.event("refused", peer=name, status=status, reason=status.word)

    def _handle(self, command: bytes, now: float) -> None:
        """Act on a command of the supervisor; empty: the supervisor is gone."""
        if not command:
            # No other process could tell this master to stop, so it drains now.
            self._poll.unregister(self._channel.fileno())
            self._log.event("drain", reason="the supervisor is gone")
        if command.startswith(control.OTHERS):
            self._pool.other_children = int(command.removeprefix(control.OTHERS))
            self._knows_others = True
        elif command.startswith(control.PEERS):
            control.merge_peers(self._admission.elsewhere, control.parse_peers(command))
        elif command == control.STOP:
            self._close(STOPPING)
            self._last_signals = [(now + _TERM_AFTER_S, signal.SIGTERM), (now + _KILL_AFTER_S, signal.SIGKILL)]
        elif command in (control.DRAIN, control.YIELD, b"") and not self._draining:
            self._drain(yields=command == control.YIELD)

    def _drain(self, *, yields: bool) -> None:
        """Begin to drain. ``yields``: another master has the backlog; else this one accepts what it holds."""
        self._draining = True
        self._knows_others = True  # OTHERS may never come now, and the backlog must be served
        self._admission.disclose()
        self._channel.report_at = 0.0  # the next generation waits for the numbers
        if yields:
            self._close(DRAINING)
        else:
            # Not only when the listeners are closed: idle connections may have the places that the backlog needs.
            self._pool.set_phase(DRAINING)
            self._acceptor.limit_to_backlog()

    def _close(self, phase: int) -> None:
        self._acceptor.close()
        self._pool.set_phase(phase)
        self._pool.close()

    def _run_timers(self, now: float) -> None:
        if not self._draining:
            self._channel.report(self._pool.counts, now)
        else:  # each child that ends makes room for one of the next generation
            self._channel.report_draining(self._pool.counts, self._admission, now)
        self._refusals.expire(now)
        self._pool.run_timers(now)
        if self._last_signals and now >= self._last_signals[0][0]:
            self._pool.signal(self._last_signals.pop(0)[1])

    def _timeout_ms(self, now: float) -> float | None:
        """Return the time until something is due without an event; None: nothing is."""
        if self._draining and self._acceptor.polled:
            return 0
        moments = [
            self._channel.report_at,
            self._acceptor.paused_until,
            self._refusals.expire_at,
            *self._pool.timers,
            *(moment for moment, _ in self._last_signals),
        ]
        due = [moment for moment in moments if moment > now]
        return (min(due) - now) * 1000 + 1 if due else None
