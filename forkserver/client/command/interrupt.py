"""Signals that end the run, heeded at once wherever it waits. Runs at the user's.

The interpreter looks for a signal between two steps of Python. One that comes after the last look and before a system
call that blocks would wait as long as that call does: nothing interrupts it any more. And where it comes while a weak
reference calls back or an object is deleted, the interpreter drops what is raised. So whatever signal came is sent
again and again, by a thread that the C handler wakes through ``signal.set_wakeup_fd``, and raised each time unless the
run is already ending for it.
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
    """From now on a signal that asks us to end raises Interrupted in the main thread, which is to be the caller."""
    for number in _SIGNALS:
        # What is ignored stays so: a shell without job control and nohup(1) want it.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _drop
    sys.excepthook = _end
    read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    threading.Thread(target=_insist, args=(read_fd, threading.get_ident()), daemon=True).start()


def ignore() -> None:
    """From now on ignore the signals that end a run: the run has ended."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def die(number: int) -> None:
    """End this process by the signal ``number``, so that a shell sees the interruption and ends its loop or script.

    Return only where the kernel does not deliver the signal: a process with PID 1 does not die of its own signals.
    """
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    # Neither the same signal nor a second one may keep the temporary file from being removed.
    if not _is_ending():
        raise Interrupted(number)


def _is_ending() -> bool:
    """Whether an Interrupted is on its way, and what runs now cleans up behind it."""
    error = sys.exception()
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error is not None


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, Interrupted):  # after the run, where nobody catches it any more
        die(error.signal_number)
    sys.__excepthook__(kind, error, trace)


def _drop(unraisable: sys.UnraisableHookArgs) -> None:
    if not isinstance(unraisable.exc_value, Interrupted):  # It is raised again.
        sys.__unraisablehook__(unraisable)


def _insist(read_fd: int, main_thread: int) -> None:
    number = os.read(read_fd, 1)[0]
    while True:
        time.sleep(_AGAIN_S)
        signal.pthread_kill(main_thread, number)
