"""Turn signals into a readable descriptor, so that the loop acts on them. Runs in supervisor and master.

The C handler itself writes to the wake-up descriptor (``signal.set_wakeup_fd``). So a signal that arrives between a
check and a sleep makes the poll return at once. No signal is lost, and nothing runs inside a handler.
"""

from __future__ import annotations

import os
import signal


class SignalPipe:
    """Catch the given signals for the rest of the process's life. ``fd`` is readable when one has come."""

    def __init__(self, signals: tuple[signal.Signals, ...]) -> None:
        self.fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # No warning for a full pipe: a wake-up is due already, so nothing is lost.
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        for number in signals:
            signal.signal(number, _record)

    def drain(self) -> set[int]:
        """Return the signals that came since the last call, each once. Drain first, then act."""
        try:
            return set(os.read(self.fd, 4096))
        except BlockingIOError:
            return set()

    @staticmethod
    def forget() -> None:
        """Stop writing to the pipe. A forked child calls this: the pipe is its parent's."""
        signal.set_wakeup_fd(-1)


def _record(_number: int, _frame: object) -> None:
    """Do nothing. The C handler, which writes to the descriptor, is installed only with a Python handler."""
