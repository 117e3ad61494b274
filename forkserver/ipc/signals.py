"""Signals to a readable descriptor: handlers record, the loop acts. Runs in supervisor and master.

The wake-up descriptor (``signal.set_wakeup_fd``) is written by the C handler itself, so a signal that arrives between a
check and a sleep makes the poll return at once; nothing is lost and nothing runs inside a handler.
"""

from __future__ import annotations

import os
import signal


class SignalPipe:
    """Catches the given signals from its making until ``close``; ``fd`` is readable when one has come."""

    def __init__(self, signals: tuple[signal.Signals, ...]) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A full pipe means that a wake-up is already due: no warning, nothing is lost.
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _record)

    def drain(self) -> set[int]:
        """The signals that came since the last call, each once. Clear first, then act."""
        try:
            return set(os.read(self.fd, 4096))
        except BlockingIOError:
            return set()

    @staticmethod
    def forget() -> None:
        """In a forked child: stop writing into the parent's pipe."""
        signal.set_wakeup_fd(-1)


def _record(_number: int, _frame: object) -> None:
    """A Python handler must exist for the C handler to be installed; the descriptor is the record."""
