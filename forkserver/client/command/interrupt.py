"""End the run at a signal, at once, wherever the run waits. Runs in the client.

The interpreter checks for signals between two steps of Python. A signal that comes after the check and before a system
call that blocks would wait as long as the call does, because nothing interrupts the call any more. And the interpreter
drops an exception that is raised while a weak reference calls back or an object is deleted. So a thread sends the
signal again and again; the C handler wakes the thread through ``signal.set_wakeup_fd``. The signal is raised each time,
unless the run is already ending because of it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from forkserver.client.outcome import Interrupted

if TYPE_CHECKING:
    from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_S = 0.05


def catch() -> None:
    """Have signals that end the run raise Interrupted in the main thread, which must be the caller."""
    for number in _SIGNALS:
        # An ignored signal stays ignored, as a shell without job control and nohup(1) want it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _drop
    sys.excepthook = _end
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    threading.Thread(target=_insist, args=(read_fd, threading.get_ident()), daemon=True).start()


def ignore() -> None:
    """Ignore the signals that end a run, because the run has ended."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def die(number: int) -> None:
    """End this process by the signal ``number``, so that a shell sees the interruption and ends its loop or script.

    Return only if the kernel does not deliver the signal: a process with PID 1 does not die of its own signals.
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # Ignore further signals while the run cleans up. Otherwise the temporary file would stay.
    if not _is_ending():
        raise Interrupted(number)


def _is_ending() -> bool:
    """Return whether an Interrupted is being handled, so that the run is cleaning up."""
    error = sys.exception()
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, Interrupted):  # after the run, where no handler catches it any more
        die(error.signal_number)
    sys.__excepthook__(kind, error, trace)


def _drop(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, Interrupted):  # the thread sends the signal again
        sys.__unraisablehook__(unraisable)


def _insist(read_fd: int, main_thread: int) -> None:
    number = os.read(read_fd, 1)[0]
    while True:
        time.sleep(_AGAIN_S)
        signal.pthread_kill(main_thread, number)
