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
from forkserver.supervisor import journal, listener, systemd, tables
from forkserver.supervisor.ending import STOP_S, Ending
from forkserver.supervisor.logsocket import LogSocket
from forkserver.supervisor.operator import RELOAD, STATUS, OperatorSocket
from forkserver.supervisor.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.settings import Settings
    from forkserver.supervisor.listener import Listeners
    from forkserver.supervisor.operator import Answer

_MAX_WISHES = 64


def main(settings: Settings, load: Callable[[], Settings]) -> int:
    """Serve until told to stop; returns the exit status. Raises OperatorError where it cannot start.

    ``load`` reads the settings anew for a reload, and raises OperatorError.
    """
    _open_standard_streams()
    log = Log(patience_s=LOOP_PATIENCE_S, form=journal.form(settings.log_format))
    prctl.set_child_subreaper()
    passed, left = systemd.passed_descriptors()
    notifier = systemd.Notifier(time.monotonic(), stored=[name for name, _ in left])
    tables.log_cut(left, log)
    notifier.store({})  # now, not with the first tables: a start that fails would tell it again
    listeners = listener.adopt(passed) if passed else listener.bind(settings)
    masters = Succession(settings, listeners, log)
    supervisor = Supervisor(masters, load, log, notifier, adopted=listeners if passed else None)
    supervisor.warn_of_unused_addresses(settings)
    return supervisor.run()


def _open_standard_streams() -> None:
    """Were descriptor 2 closed, the next socket would get it, and a client the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, this one


class Supervisor:
    """Stops on SIGTERM or SIGINT, at once on the second; reloads on SIGHUP, or when an operator asks.

    ``adopted`` are the sockets that were passed at the start, None if the server bound its own.
    """

    def __init__(
        self,
        masters: Succession,
        load: Callable[[], Settings],
        log: Log,
        notifier: systemd.Notifier,
        *,
        adopted: Listeners | None,
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
            self._answer(word, answer)
        self._masters.bury(now)
        if self._wishes and not self._masters.reloading:
            self._reload()
        self._keep_time(now)
        self._masters.speak()
        self._tell_manager(now)

    def warn_of_unused_addresses(self, settings: Settings) -> str:
        """Log a warning where the settings name addresses that are not used; return the warning, or an empty text."""
        complaint = "" if self._adopted is None else listener.unused_addresses(settings, self._adopted)
        if complaint:
            self._log.event("warning", reason=complaint)
        return complaint

    def _answer(self, word: bytes, answer: Answer) -> None:
        if word == RELOAD:
            self._wish(answer)
        elif word == STATUS:
            answer(None, self._status)
        else:
            answer(OperatorError("only `reload` and `status` can be asked for"))

    @property
    def _status(self) -> str:
        """One line for people: the status that the service manager shows, and `forkserver status`."""
        if self._ending.moment is not None:
            return f"draining, for {self._masters.settings.drain_s:.0f} s at most"
        return self._masters.status if self._masters.serving else "starting a master"

    def _heed(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._wish(lambda _error, _text="": None)
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
        self._ending.begin(now, drain_s)

    def _wish(self, answer: Answer) -> None:
        """Reload once the reload under way, if any, has ended: the settings it has read may be older than the wish."""
        if len(self._wishes) < _MAX_WISHES:
            self._wishes.append(answer)
        else:
            answer(OperatorError("too many wait for a reload; try again when it has ended"))

    def _reload(self) -> None:
        """Read the settings and start their master. Operators who asked are told the result, and the log is."""
        answers, self._wishes = self._wishes, []

        def done(error: OperatorError | None) -> None:
            warning = ""
            if error:
                self._log.event("reload-failed", reason=str(error))
            else:
                warning = self.warn_of_unused_addresses(self._masters.settings)
            # The status first: whoever is told that the reload is done may look at it at once.
            self._notifier.status(self._status, time.monotonic(), at_once=True)
            self._notifier.ready()
            for answer in answers:
                answer(error, warning)

        self._notifier.reloading()
        try:
            self._masters.reload(self._load(), adopted=self._adopted is not None, answer=done)
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
        if self._masters.serving or self._ending.moment is not None:
            self._notifier.status(self._status, now)
        if self._masters.serving and not self._announced:
            self._announced = True
            self._notifier.ready()
        self._notifier.store(self._masters.tables)
        self._notifier.keep_time(now)

    def _timeout_ms(self, now: float) -> float:
        moments = [self._beat_at, self._masters.start_at, self._ending.moment, self._notifier.due]
        return min(max(0, moment - now) for moment in moments if moment is not None) * 1000 + 1
