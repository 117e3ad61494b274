"""How far a transfer is, and what a run waits for, on a terminal. Runs at the user's."""

from __future__ import annotations

import itertools
import os
import time
from typing import TYPE_CHECKING, TextIO

import click

from forkserver.client.display import escape, processes
from forkserver.client.remote.patience import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from click._termui_impl import ProgressBar

    from forkserver.client.outcome import Served

FIRST_AFTER_S = 1.0
EVERY_S = 0.1
_NAME_CHARS = 30
_MOST_PIDS = 2
_USUAL_COLUMNS = 80


class Progress:
    """Says nothing of what is done within a second. Called with how much is here, and how much there is.

    ``terminal`` is None where nobody watches. ``serving`` tells whose processes are at work. ``clock`` gives seconds
    that never go back.
    """

    def __init__(
        self,
        name: bytes,
        terminal: TextIO | None,
        serving: Callable[[], list[Served]] = list,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = escape(name)
        self._terminal = terminal
        self._serving = serving
        self._clock = clock
        self._started = clock()
        self._next = self._started + FIRST_AFTER_S
        self._bar: ProgressBar[int] | None = None
        self._size: int | None = 0
        self._before: int | None = None
        self._shown = False

    def __call__(self, here: int, size: int | None) -> None:
        """``here`` of ``size`` bytes are here, the first time those from before; ``size`` is not 0, None: unknown."""
        if self._before is None:
            self._before = here
        if self._terminal is None:
            return
        if self._bar is None or (self._size is None and size is not None):
            self._bar = self._new_bar(self._terminal, size)
        self._size = size
        now = self._clock()
        if now >= self._next or (self._shown and here == size):
            self._next = now + EVERY_S
            self._shown = True
            self._bar.update(here - self._bar.pos, here)

    def _new_bar(self, terminal: TextIO, size: int | None) -> ProgressBar[int]:
        if self._shown:
            terminal.write("\r\x1b[K")
        return click.progressbar(
            itertools.repeat(0) if size is None else None,
            length=size,
            label=self._name if self._bar is None else self._bar.label,
            bar_template="%(label)s  [%(bar)s]  %(info)s" if size is not None else "%(label)s  %(info)s",
            item_show_func=self._facts,
            show_eta=False,
            width=0,
            file=terminal,
        )

    def was_here(self, size: int) -> None:
        """Of several files, so many bytes more were here before."""
        self._before = (self._before or 0) + size

    def at(self, name: bytes, received: int, size: int | None) -> None:
        """The same of several files, of which ``name`` is the one in work."""
        if self._bar is not None:
            self._bar.label = escape(name)[-_NAME_CHARS:]
        self._before = self._before or 0  # ``was_here`` tells those from before
        self(received, size)

    def clear(self) -> None:
        """The transfer is over, well or not: give the terminal its cursor and a fresh line."""
        if self._bar is not None and self._shown:
            self._bar.render_finish()
            self._shown = False

    def _facts(self, here: int | None) -> str:
        # The bar's own guess of the time left takes what was here before for speed.
        here = here or 0
        rate = max(here - (self._before or 0), 0) / max(self._clock() - self._started, 0.001)
        if self._size is None:
            rest = f"  {here / 1e6:,.1f} MB so far"
        else:
            rest = f"  {_duration((self._size - here) / rate)}" if rate and here < self._size else ""
        serving = self._serving()
        return f"{rate / 1e6:,.1f} MB/s{rest}" + (f"  {processes(serving, most=_MOST_PIDS)}" if serving else "")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{seconds:02d}"


class Waiting(Watcher):
    """One line about a server that must be asked again, from the first retry after a second on.

    ``terminal`` is None where nobody watches. ``clock`` gives seconds that never go back.
    """

    def __init__(self, terminal: TextIO | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._started = clock()
        self._shown = False

    def begin(self) -> None:
        """A request is about to be made: its time runs."""
        self._started = self._clock()

    def again(self, text: str) -> None:
        """It is made again; ``text`` takes the place of what was told before."""
        if self._clock() - self._started >= FIRST_AFTER_S:
            self._show(f"fsget: {text}")
            self._shown = True

    def clear(self) -> None:
        """It is answered, or given up: take the line away."""
        if self._shown:
            self._shown = False
            self._show("")

    def _show(self, text: str) -> None:
        if self._terminal is not None:
            # A line that wraps could not be taken away.
            self._terminal.write(f"\r{text[: _columns(self._terminal) - 1]}\x1b[K")
            self._terminal.flush()


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _USUAL_COLUMNS
    except OSError:
        return _USUAL_COLUMNS
