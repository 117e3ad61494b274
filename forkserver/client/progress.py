"""How far a transfer is, on a terminal. Runs at the user's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TextIO

from forkserver.client.display import count, escape

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_AFTER_S = 1.0
EVERY_S = 0.2


class Progress:
    """One line, written over and over, on a terminal; says nothing of what is done within a second.

    ``terminal`` is None where nobody watches. ``clock`` gives seconds that never go back.
    """

    def __init__(self, name: bytes, terminal: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = escape(name)
        self._terminal = terminal
        self._clock = clock
        self._started = clock()
        self._next = self._started + FIRST_AFTER_S
        self._width = 0

    def __call__(self, received: int, size: int) -> None:
        """``received`` of ``size`` bytes are here; ``size`` is not 0."""
        now = self._clock()
        if self._terminal is None or now < self._next:
            return
        self._next = now + EVERY_S
        rate = received / (now - self._started)
        left_s = int((size - received) / rate) if rate else 0
        text = (
            f"{self._name}: {100 * received // size:3d} %, {count(received)} of {count(size)} bytes, "
            f"{rate / 1e6:,.1f} MB/s, {left_s // 60}:{left_s % 60:02d} left"
        )
        # Spaces over the rest of the line before, not an escape sequence: there are terminals without.
        text = text[: _columns(self._terminal) - 1]
        _overwrite(self._terminal, text.ljust(self._width))
        self._width = len(text)

    def clear(self) -> None:
        """Take the line away, so that another can be written in its place."""
        if self._terminal is not None and self._width:
            _overwrite(self._terminal, " " * self._width + "\r")
            self._width = 0


def _overwrite(terminal: TextIO, text: str) -> None:
    terminal.write("\r" + text)
    terminal.flush()


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
