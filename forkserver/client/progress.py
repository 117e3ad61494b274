"""How far a transfer is, as a bar on a terminal. Runs at the user's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

import click

from forkserver.client.display import escape

if TYPE_CHECKING:
    from collections.abc import Callable

    from click._termui_impl import ProgressBar

FIRST_AFTER_S = 1.0
EVERY_S = 0.1


class Progress:
    """Says nothing of what is done within a second.

    ``terminal`` is None where nobody watches. ``clock`` gives seconds that never go back.
    """

    def __init__(self, name: bytes, terminal: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = escape(name)
        self._terminal = terminal
        self._clock = clock
        self._started = clock()
        self._next = self._started + FIRST_AFTER_S
        self._bar: ProgressBar[int] | None = None
        self._shown = False

    def __call__(self, received: int, size: int) -> None:
        """``received`` of ``size`` bytes are here; ``size`` is not 0."""
        if self._terminal is None:
            return
        if self._bar is None:  # made now, so that it times the whole transfer; shown later, or never
            self._bar = click.progressbar(length=size, label=self._name, item_show_func=self._rate, file=self._terminal)
        now = self._clock()
        if now >= self._next or (self._shown and received == size):
            self._next = now + EVERY_S
            self._shown = True
            self._bar.update(received - self._bar.pos, received)

    def clear(self) -> None:
        """The transfer is over, well or not: give the terminal its cursor and a fresh line."""
        if self._bar is not None and self._shown:
            self._bar.render_finish()
            self._shown = False

    def _rate(self, received: int | None) -> str:
        return f"{(received or 0) / max(self._clock() - self._started, 0.001) / 1e6:,.1f} MB/s"
