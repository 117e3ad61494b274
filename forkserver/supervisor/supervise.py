"""The supervisor's loop: signals, the masters' words and deaths, and time. Runs in the supervisor.

It owns what outlives a master, the sockets and the settings. It never accepts and never reads a client's byte.
"""

from __future__ import annotations

import os
import select
import signal
import time

from forkserver.errors import OperatorError
from forkserver.ipc import control
from forkserver.ipc.signals import SignalPipe
from forkserver.kernel import prctl
from forkserver.logline import LOOP_PATIENCE_S, Log
from forkserver.supervisor import journal, listener, systemd, tables
from forkserver.supervisor.ending import STOP_S, Ending
from forkserver.supervisor.generations import Generations
from forkserver.supervisor.logsocket import LogSocket
from forkserver.supervisor.operator import RELOAD, REOPEN, STATUS, OperatorSocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.settings import Settings
    from forkserver.supervisor.listener import Listeners
    from forkserver.supervisor.operator import Answer

_MAX_WISHES = 64
_HEEDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def main(settings: Settings, load: Callable[[], Settings], reopen_log: Callable[[], None] | None = None) -> int:
    """Serve until told to stop; returns the exit status. Raises OperatorError where it cannot start.

    ``load`` reads the settings anew for a reload. ``reopen_log`` puts the log file that is there now in the place of
    standard error; without it the log is no file that can be reopened. Both raise OperatorError.
    """
    _open_standard_streams()
    log = Log(patience_s=LOOP_PATIENCE_S, form=journal.form(settings.log_format))
    prctl.set_child_subreaper()
    passed, left = systemd.passed_descriptors()
    notifier = systemd.Notifier(time.monotonic(), stored=[name for name, _ in left])
    tables.log_cut(left, log)
    notifier.store({})  # now, not with the first tables: a start that fails would tell it again
    listeners = listener.adopt(passed) if passed else listener.bind(settings)
    masters = Generations(settings, listeners, log)
    adopted = listeners if passed else None
    supervisor = Supervisor(masters, load, reopen_log, log, notifier=notifier, adopted=adopted)
    supervisor.warn_of_unused_addresses(settings)
    return supervisor.run()


def _open_standard_streams() -> None:
    """Were descriptor 2 closed, the next socket would get it, and a client the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, this one


def _tell_nobody(error: OperatorError | None, text: str = "") -> None:
    """Answer a signal."""


class Supervisor:
    """Stops on SIGTERM or SIGINT, at once on the second; reloads on SIGHUP, or when an operator asks.

    Reopens the log file on SIGUSR1, when an operator asks, and before each reload.

    ``adopted`` are the sockets that were passed at the start, None if the server bound its own.
    """

    def __init__(  # noqa: PLR0913 - the parts of the supervisor, each once
        self,
        masters: Generations,
        load: Callable[[], Settings],
        reopen_log: Callable[[], None] | None,
        log: Log,
        *,
        notifier: systemd.Notifier,
        adopted: Listeners | None,
    ) -> None:
        self._masters = masters
        self._load = load
        self._reopen_log = reopen_log
        self._log = log
        self._notifier = notifier
        self._adopted = adopted
        self._log_socket = LogSocket()
        self._operators = OperatorSocket()
        if self._operators.complaint:
            log.event("warning", reason=self._operators.complaint)
        self._announced = False
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # its default is to end a process, and it means nothing here
        self._signals = SignalPipe((signal.SIGCHLD, *_HEEDED))
        # Whoever started us may have blocked any of them, and masters and children inherit it.
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._wishes: list[tuple[bytes, Answer]] = []
        self._beat_at = 0.0
        self._ending = Ending(masters)

    def run(self) -> int:
        """The loop; returns the exit status. Raises OperatorError if the first master cannot start."""
        self._masters.start(time.monotonic())
        while self._ending.moment is None or self._masters:
            self._turn()
        # The interpreter takes its handlers away before it ends: one signal more, and the status would tell of that.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
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
        self._masters.reap(now)
        if self._wishes and not self._masters.reloading:
            self._fulfil()
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
        if word in (RELOAD, REOPEN):
            self._wish(word, answer)
        elif word == STATUS:
            answer(None, self._status)
        else:
            answer(OperatorError("only `reload`, `reopen` and `status` can be asked for"))

    @property
    def _status(self) -> str:
        """One line for people: the status that the service manager shows, and `forkserver status`."""
        if self._ending.moment is not None:
            return f"draining, for {self._masters.settings.drain_s:.0f} s at most"
        return self._masters.status if self._masters.serving else "starting a master"

    def _heed(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._wish(RELOAD, _tell_nobody)
        elif number == signal.SIGUSR1:
            self._wish(REOPEN, _tell_nobody)
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

    def _wish(self, word: bytes, answer: Answer) -> None:
        """Note a wish, for the time after the reload under way, if any: that one may have read older settings."""
        if len(self._wishes) < _MAX_WISHES:
            self._wishes.append((word, answer))
        else:
            answer(OperatorError("too many wait for a reload; try again when it has ended"))

    def _fulfil(self) -> None:
        """Reload for all who wish that. Only when nobody does, reopen the log file for all who wish that."""
        word = RELOAD if any(word == RELOAD for word, _ in self._wishes) else REOPEN
        answers = [answer for each, answer in self._wishes if each == word]
        self._wishes = [wish for wish in self._wishes if wish[0] != word]
        if word == RELOAD:
            self._reload(answers)
        else:
            self._reopen(answers)

    def _reload(self, answers: list[Answer]) -> None:
        """Read the settings and start their master. Operators who asked are told the result, and the log is."""

        def done(error: OperatorError | None) -> None:
            warning = complaint
            if error:
                self._log.event("reload-failed", reason=str(error))
                if complaint:
                    error = OperatorError(f"{error}; {complaint}")
                elif self._masters.log_is_old:
                    # The old settings stay in force, and their master must write to the new file, too.
                    self._wish(REOPEN, _tell_nobody)
            else:
                unused = self.warn_of_unused_addresses(self._masters.settings)
                warning = "; ".join([each for each in (complaint, unused) if each])
            # The status first: whoever is told that the reload is done may look at it at once.
            self._notifier.status(self._status, time.monotonic(), at_once=True)
            self._notifier.ready()
            for answer in answers:
                answer(error, warning)

        complaint = self._renew_log()
        self._notifier.reloading()
        try:
            self._masters.reload(self._load(), adopted=self._adopted is not None, answer=done)
        except OperatorError as error:
            done(error)

    def _reopen(self, answers: list[Answer]) -> None:
        """Reopen the log file. Where that is another file now, start a master that writes to the new one.

        Master and children cannot open files: they inherit the log. The settings remain those in force.
        """

        def done(error: OperatorError | None) -> None:
            for answer in answers:
                answer(error)

        def started(error: OperatorError | None) -> None:
            if error:
                self._log.event("warning", reason=f"new connections are still logged in the old file: {error}")
            done(error)

        if self._reopen_log is None:
            done(OperatorError("the log of this server is no file that can be reopened: it has no --log-file"))
        elif complaint := self._renew_log():
            done(OperatorError(complaint))
        elif self._ending.moment is not None or not self._masters.log_is_old:
            done(None)
        else:
            try:
                # As if adopted: the sockets in use stay.
                self._masters.reload(self._masters.settings, adopted=True, answer=started)
            except OperatorError as error:
                started(error)

    def _renew_log(self) -> str:
        """Reopen the log file, if the log is one. Returns the complaint where that fails, which is logged, too."""
        try:
            if self._reopen_log:
                self._reopen_log()
        except OperatorError as error:
            self._log.event("warning", reason=str(error))
            return str(error)
        return ""

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
