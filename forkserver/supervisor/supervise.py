"""The loop: signals, messages and deaths of masters, operators' requests, timers. Runs in the supervisor.

The supervisor owns what outlives a master: sockets and settings. It never accepts and never reads a client's byte.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable

from forkserver.ipc import control
from forkserver.ipc.signals import SignalPipe
from forkserver.kernel import prctl
from forkserver.logline import LOOP_PATIENCE_S, Log
from forkserver.settings import Settings
from forkserver.supervisor import listener, logoutput, sharedtables, systemd
from forkserver.supervisor.generations import Generations
from forkserver.supervisor.logsocket import LogSocket
from forkserver.supervisor.operator import RELOAD, REOPEN, OperatorSocket
from forkserver.supervisor.reload import ReloadQueue, ignore_result
from forkserver.supervisor.shutdown import Shutdown

_HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def main(
    settings: Settings,
    load: Callable[[], Settings],
    *,
    reopen_log: Callable[[], None] | None = None,
    report_ready: Callable[[str], None] | None = None,
) -> int:
    """Serve until told to stop; return the exit status. Raises OperatorError if the server cannot start.

    ``load`` reads the settings again for a reload. ``reopen_log`` makes standard error the log file that is there now,
    and is None if the log is not a file. Both raise OperatorError. ``report_ready`` is called once, with the addresses,
    when the first master is ready.
    """
    _open_standard_streams()
    log = Log(patience_s=LOOP_PATIENCE_S, form=logoutput.choose_form(settings.log_format))
    prctl.set_child_subreaper()
    passed, left = systemd.passed_descriptors()
    notifier = systemd.Notifier(time.monotonic(), stored=[name for name, _ in left])
    sharedtables.log_cut_connections(left, log)
    # Have systemd forget these tables now: after a start that fails, the next process would log them again.
    notifier.store({})
    listeners = listener.adopt(passed) if passed else listener.bind(settings)
    masters = Generations(settings, listeners, log)
    reloads = ReloadQueue(masters, load, reopen_log, log, notifier=notifier, adopted=listeners if passed else None)
    reloads.warn_of_unused_addresses(settings)
    return Supervisor(masters, reloads, log, notifier, report_ready).run()


def _open_standard_streams() -> None:
    """Open closed standard streams on /dev/null. Otherwise the next socket could become descriptor 2, the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is ``fd``


class Supervisor:
    """The loop. SIGTERM and SIGINT drain, and stop at once when they come again; SIGHUP reloads; SIGUSR1 reopens."""

    def __init__(
        self,
        masters: Generations,
        reloads: ReloadQueue,
        log: Log,
        notifier: systemd.Notifier,
        report_ready: Callable[[str], None] | None,
    ) -> None:
        self._masters = masters
        self._reloads = reloads
        self._log = log
        self._notifier = notifier
        self._report_ready = report_ready
        self._log_socket = LogSocket()
        self._operators = OperatorSocket()
        if self._operators.complaint:
            log.event("warning", reason=self._operators.complaint)
        self._announced = False
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # means nothing here, and would end the process by default
        self._signals = SignalPipe((signal.SIGCHLD, *_HANDLED_SIGNALS))
        # The process that started this one may have blocked signals, and masters and children inherit the mask.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._next_heartbeat = 0.0
        self._shutdown = Shutdown(masters, log, notifier)

    def run(self) -> int:
        """Serve until told to stop; return the exit status. Raises OperatorError if masters cannot start."""
        self._masters.start(time.monotonic())
        while not self._masters.shutting_down or self._masters:
            self._run_once()
        # The interpreter removes its signal handlers before it ends. A signal after that would change the exit status.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED_SIGNALS)
        self._log.event("stopped")
        return 0

    def _run_once(self) -> None:
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        self._operators.register(poll)
        self._masters.register(poll)
        poll.poll(self._timeout_ms(time.monotonic()))
        now = time.monotonic()
        signals = self._signals.drain()
        self._masters.read_messages(now)
        for word, answer in self._operators.read_requests():
            self._reloads.handle(word, answer)
        self._masters.reap(now)
        # After the deaths: a server that is to stop while it has no master serves its backlog first.
        for number in signals:
            self._handle_signal(number, now)
        self._reloads.start_next()
        self._run_timers(now)
        self._masters.send_messages()
        self._notify_manager(now)

    def _handle_signal(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._reloads.handle(RELOAD, ignore_result)
        elif number == signal.SIGUSR1:
            self._reloads.handle(REOPEN, ignore_result)
        elif number != signal.SIGCHLD:  # SIGCHLD only wakes the loop, which reaps in every turn
            self._shutdown.begin(signal.Signals(number).name, now)

    def _run_timers(self, now: float) -> None:
        if now >= self._next_heartbeat:
            self._next_heartbeat = now + control.HEARTBEAT_S
            self._masters.check_heartbeats(now)
            self._log_socket.reconnect()
        if self._masters.start_at is not None and now >= self._masters.start_at:
            self._masters.start(now)
        self._shutdown.run_timer(now)

    def _notify_manager(self, now: float) -> None:
        if self._masters.serving or self._masters.shutting_down:
            self._notifier.status(self._masters.status, now)
        if self._masters.serving and not self._announced:
            self._announced = True
            self._notifier.ready()
            if self._report_ready:
                self._report_ready(self._masters.addresses)
        self._notifier.store(self._masters.tables)
        self._notifier.run_timers(now)

    def _timeout_ms(self, now: float) -> float:
        moments = [self._next_heartbeat, self._masters.start_at, self._shutdown.due, self._notifier.due]
        return min(max(0, moment - now) for moment in moments if moment is not None) * 1000 + 1
