"""The supervisor's loop: signals, the masters' words and deaths, and time. Runs in the supervisor.

It owns what outlives a master, the sockets and the settings. It never accepts and never reads a client's byte.
"""

from __future__ import annotations

import os
import select
import signal
import time

from forkserver import control
from forkserver.errors import OperatorError
from forkserver.kernel import prctl
from forkserver.logline import LOOP_PATIENCE_S, Log
from forkserver.signals import SignalPipe
from forkserver.supervisor import journal, listener, systemd
from forkserver.supervisor.ending import STOP_S, Ending
from forkserver.supervisor.logsocket import LogSocket
from forkserver.supervisor.operator import RELOAD, OperatorSocket
from forkserver.supervisor.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.settings import Settings
    from forkserver.supervisor.succession import Answer

_MAX_WISHES = 64


def main(settings: Settings, load: Callable[[], Settings]) -> int:
    """Serve until told to stop; returns the exit status. Raises OperatorError where it cannot start.

    ``load`` reads the settings anew for a reload, and raises OperatorError.
    """
    _open_standard_streams()
    log = Log(patience_s=LOOP_PATIENCE_S, form=journal.form(settings.log_format))
    prctl.set_child_subreaper()
    notifier = systemd.Notifier(time.monotonic())
    passed = systemd.passed_sockets()
    listeners = listener.adopt(passed) if passed else listener.bind(settings)
    masters = Succession(settings, listeners, log)
    return Supervisor(masters, load, log, notifier, adopted=bool(passed)).run()


def _open_standard_streams() -> None:
    """Were descriptor 2 closed, the next socket would get it, and a client the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, this one


class Supervisor:
    """Stops on SIGTERM or SIGINT, at once on the second; reloads on SIGHUP, or when an operator asks."""

    def __init__(
        self,
        masters: Succession,
        load: Callable[[], Settings],
        log: Log,
        notifier: systemd.Notifier,
        *,
        adopted: bool,
    ) -> None:
        self._masters = masters
        self._load = load
        self._log = log
        self._notifier = notifier
        self._adopted = adopted
        self._log_socket = LogSocket()
        self._operators = OperatorSocket()
        if self._operators.complaint:
            log.event("warning", reason=self._operators.complaint)
        self._announced = False
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # their default is to end a process, and they mean nothing here
        self._signals = SignalPipe((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        # Whoever started us may have blocked any of them, and masters and children inherit it.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._wishes: list[Answer] = []
        self._beat_at = 0.0
        self._ending = Ending(masters)

    def run(self) -> int:
        """The loop; returns the exit status. Raises OperatorError if the first master cannot start."""
        self._masters.start(time.monotonic())
        while self._ending.moment is None or self._masters:
            self._turn()
        # The interpreter takes its handlers away before it ends: one signal more, and the status would tell of that.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self._log.event("stopped")
        return 0

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        self._operators.watch(poll)
        self._masters.watch(poll)
        poll.poll(self._timeout_ms(time.monotonic()))
        now = time.monotonic()
        for number in self._signals.drain():
            self._heed(number, now)
        self._masters.listen(now)
        for word, answer in self._operators.listen():
            self._wish(answer) if word == RELOAD else answer(OperatorError("only `reload` can be asked for"))
        self._masters.bury(now)
        if self._wishes and not self._masters.reloading:
            self._reload()
        self._keep_time(now)
        self._masters.speak()
        self._tell_manager(now)

    def _heed(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._wish(lambda _: None)
        elif number == signal.SIGCHLD:
            pass  # it woke us; every turn buries
        else:
            self._end(signal.Signals(number).name, now)

    def _end(self, reason: str, now: float) -> None:
        drain_s = self._masters.settings.drain_s
        if self._ending.moment is None:
            self._log.event("drain", reason=reason, drain_s=f"{drain_s:.1f}")
            self._notifier.stopping()
            self._notifier.extend_timeout(drain_s + 2 * STOP_S)
            self._notifier.status(f"draining, for {drain_s:.0f} s at most", now)
        self._ending.begin(now, drain_s)

    def _wish(self, answer: Answer) -> None:
        """Reload once the reload under way, if any, has ended: the settings it has read may be older than the wish."""
        if len(self._wishes) < _MAX_WISHES:
            self._wishes.append(answer)
        else:
            answer(OperatorError("too many wait for a reload; try again when it has ended"))

    def _reload(self) -> None:
        """Read the settings and start their master; who asked learn what became of it, and so does the log."""
        answers, self._wishes = self._wishes, []

        def done(error: OperatorError | None) -> None:
            if error:
                self._log.event("reload-failed", reason=str(error))
            self._notifier.ready()
            for answer in answers:
                answer(error)

        self._notifier.reloading()
        try:
            self._masters.reload(self._load(), adopted=self._adopted, answer=done)
        except OperatorError as error:
            done(error)

    def _keep_time(self, now: float) -> None:
        if now >= self._beat_at:
            self._beat_at = now + control.HEARTBEAT_S
            self._masters.beat(now)
            self._log_socket.renew()
        if self._masters.start_at is not None and now >= self._masters.start_at:
            self._masters.start(now)
        self._ending.keep_time(now)

    def _tell_manager(self, now: float) -> None:
        if self._masters.serving and self._ending.moment is None:
            self._notifier.status(self._masters.status, now)
            if not self._announced:
                self._announced = True
                self._notifier.ready()
        self._notifier.keep_time(now)

    def _timeout_ms(self, now: float) -> float:
        moments = [self._beat_at, self._masters.start_at, self._ending.moment, self._notifier.due]
        return min(max(0, moment - now) for moment in moments if moment is not None) * 1000 + 1
