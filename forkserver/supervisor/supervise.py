"""The supervisor's loop: signals, the masters' words and deaths, and time. Runs in the supervisor.

It owns what outlives a master, the sockets and the settings. It never accepts and never reads a client's byte.
"""

from __future__ import annotations

import os
import select
import signal
import time

from forkserver import control
from forkserver.kernel import prctl
from forkserver.logline import LOOP_PATIENCE_S, Log
from forkserver.signals import SignalPipe
from forkserver.supervisor import listener, systemd
from forkserver.supervisor.succession import Succession

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.settings import Settings

_STOP_S = 5.0
"""How long a master that was told STOP may take: its children get TERM after one second and KILL after three."""
_KILL_AGAIN_S = 0.5


def main(settings: Settings) -> int:
    """Serve until told to stop; returns the exit status. Raises OperatorError where it cannot start."""
    _open_standard_streams()
    log = Log(patience_s=LOOP_PATIENCE_S)
    prctl.set_child_subreaper()
    passed = systemd.passed_sockets()
    listeners = [listener.adopt(each) for each in passed] if passed else listener.bind(settings)
    return Supervisor(Succession(settings, listeners, log), settings.drain_s, log).run()


def _open_standard_streams() -> None:
    """Were descriptor 2 closed, the next socket would get it, and a client the log."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, this one


class Supervisor:
    """``drain_s``: seconds that transfers have to finish after the first SIGTERM or SIGINT; the second ends them."""

    def __init__(self, masters: Succession, drain_s: float, log: Log) -> None:
        self._masters = masters
        self._drain_s = drain_s
        self._log = log
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, signal.SIG_IGN)  # their default is to end a process, and they mean nothing here
        self._signals = SignalPipe((signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        self._stop_at: float | None = None
        self._kill_at: float | None = None

    def run(self) -> int:
        """The loop; returns the exit status. Raises OperatorError if the first master cannot start."""
        self._masters.start(time.monotonic())
        while self._stop_at is None or self._masters:
            self._turn()
        self._log.event("stopped")
        return 0

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._signals.fd, select.POLLIN)
        self._masters.watch(poll, select.POLLIN)
        poll.poll(self._timeout_ms(time.monotonic()))
        now = time.monotonic()
        for number in self._signals.drain():
            self._heed(number, now)
        self._masters.listen()
        self._masters.bury(now)
        self._keep_time(now)

    def _heed(self, number: int, now: float) -> None:
        if number == signal.SIGHUP:
            self._log.event("ignored", signal="SIGHUP", reason="restart the server to change its settings")
        elif number == signal.SIGCHLD:
            pass  # it woke us; every turn buries
        elif self._stop_at is not None:
            self._stop_at = now  # asked twice: at once
        else:
            self._log.event("drain", reason=signal.Signals(number).name, drain_s=f"{self._drain_s:.1f}")
            self._stop_at = now + self._drain_s
            self._masters.close(control.DRAIN)

    def _keep_time(self, now: float) -> None:
        if self._masters.start_at is not None and now >= self._masters.start_at:
            self._masters.start(now)
        if self._stop_at is not None and now >= self._stop_at and self._kill_at is None:
            self._kill_at = now + _STOP_S
            self._masters.close(control.STOP)
            self._masters.signal_orphans(signal.SIGTERM)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = now + _KILL_AGAIN_S  # the masters' children are orphans by then
            self._masters.kill_masters()
            self._masters.signal_orphans(signal.SIGKILL)

    def _timeout_ms(self, now: float) -> float | None:
        moments = [self._masters.start_at, self._kill_at or self._stop_at]
        due = [max(0, moment - now) for moment in moments if moment is not None]
        return min(due) * 1000 + 1 if due else None
