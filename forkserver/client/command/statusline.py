"""Rewrite the last line of the terminal: how far a transfer is, or which server is asked again. Runs in the client.

Any thread draws the line when it has news. A separate thread draws the line several times a second, too, so that a
notice counts down and a stalled transfer gets slower while nothing else happens.

The cursor is never hidden, and the line never reaches the last column. So a process that is stopped (Ctrl-Z, SIGSTOP)
or killed leaves nothing that the shell would have to repair.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from typing import TYPE_CHECKING, Protocol, TextIO

from forkserver.client.command.cells import cells, shorten
from forkserver.client.display import counted
from forkserver.client.events import RetryEnded, Retrying

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.events import Event

FIRST_AFTER_S = 1.0
"""The line shows nothing of a transfer, and of retries, that take less than these seconds."""
TICK_S = 0.25
_AGAIN_S = 1.0
"""After so long the same text is written again: a shell may have overwritten the text."""
_QUIET_S = 0.5
"""After so long without a byte the bar gives way to a notice: no connection receives anything."""
_USUAL_COLUMNS = 80
_ECHO_CELLS = 3
"""Cells that stay free at the end of the line: the terminal echoes ^C and ^Z there, and must not wrap."""
_current: StatusLine | None = None


class Bar(Protocol):
    """The progress of a transfer. ``changed`` is when its last bytes came."""

    changed: float

    def note(self, now: float) -> None:
        """Take a sample for the rate."""

    def text(self, room: int, now: float) -> str | None:
        """Return the line, in at most ``room`` cells, or None while there is nothing to show."""


class RetryNotice:
    """The notice that a connection asks a server again. It counts down, and stays until the server has answered.

    ``due`` is when the notice is shown, and ``asks_at`` when the server is asked.
    """

    def __init__(self, retry: Retrying, line: StatusLine) -> None:
        now = line.clock()
        self._retry = retry
        self._line = line
        self.asks_at = now + retry.wait_s
        # A notice that will be shown at all is shown from the beginning of its wait.
        short_s = FIRST_AFTER_S - retry.lasting_s
        self.due = now if retry.wait_s >= short_s else now + short_s

    def text(self, room: int, now: float, others: int) -> str:
        """Return the line, in at most ``room`` cells. ``others`` is how many other connections wait."""
        retry = self._retry
        left_s = math.ceil(self.asks_at - now)
        soon = f" in {left_s} s" if left_s > 0 else ""
        whole = f"fsget: {self._line.printable(retry.text_with(soon))}"
        rest = f"; {counted(others, 'other connection')} {'waits' if others == 1 else 'wait'}" if others else ""
        asking = f"asking again{soon}"
        for text in (whole + rest, whole, f"{asking} ({retry.number} of {retry.most})" if retry.number else asking):
            if cells(text) <= room:
                return text
        return shorten(asking, room, self._line.ellipsis)


class StatusLine:
    """The status line of a run, and a consumer of the events of retries. Any thread may call any method.

    The line shows the bar as long as any connection receives something. If none does and servers are asked again, the
    line shows the notice of the connection that asks first.

    ``terminal`` is None if there is no terminal. ``clock`` returns seconds that never go back. ``ticking``: a thread
    draws the line, too, until ``close``.
    """

    def __init__(
        self, terminal: TextIO | None, clock: Callable[[], float] = time.monotonic, *, ticking: bool = True
    ) -> None:
        self.clock = clock
        self._terminal = terminal
        self._encoding = getattr(terminal, "encoding", None) or "utf-8"
        self._ticking = ticking
        self._ticker: threading.Thread | None = None
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._bar: Bar | None = None
        self._notices: dict[int, RetryNotice] = {}
        self._shown = ""
        self._shown_at = 0.0
        self.ellipsis = "…" if self.printable("…") == "…" else "..."

    @property
    def watched(self) -> bool:
        """Whether there is a terminal."""
        return self._terminal is not None

    def printable(self, text: str) -> str:
        """Return ``text`` as the terminal gets it, with escapes for characters that its encoding lacks."""
        return text.encode(self._encoding, "backslashreplace").decode(self._encoding)

    def draw(self, bar: Bar) -> None:
        """Make ``bar`` the bar of the line, and draw the line, which must be ``watched``."""
        with self._lock:
            self._bar = bar
            self._go_on()

    def finish(self, bar: Bar) -> None:
        """Leave ``bar`` on the screen as it is now, and begin a fresh line: the transfer has ended, well or not."""
        with self._lock:
            # A connection may still have waited when the others had fetched the rest. It does not ask again.
            self._notices.clear()
            if self._terminal is None or self._bar is not bar:
                return
            self._bar = None
            text = bar.text(self._room(), self.clock())
            if text is not None:
                if text != self._shown:
                    self._show(text)
                self._write("\n")
                self._shown = ""

    def __call__(self, event: Event) -> None:
        """Show the notice of a retry, or remove the notice when the server has answered or is given up."""
        if isinstance(event, Retrying) and self.watched:
            with self._lock:
                self._notices[event.session] = RetryNotice(event, self)
                self._go_on()
        elif isinstance(event, RetryEnded):
            with self._lock:
                if self._notices.pop(event.session, None) is not None:
                    self._draw()

    def close(self) -> None:
        """Remove the line, and end the drawing thread. The line may be used again."""
        global _current  # noqa: PLW0603 - a process has one terminal
        with self._lock:
            self._notices.clear()
            self._bar = None
            self._draw()
            ticker, self._ticker = self._ticker, None
            self._over.set()
            if _current is self:
                _current = None
        if ticker is not None:
            ticker.join()

    @contextlib.contextmanager
    def hidden(self) -> Iterator[None]:
        """Remove the line, and keep it away while the caller writes to the terminal."""
        with self._lock:
            self._show("")
            yield

    def _go_on(self) -> None:
        global _current  # noqa: PLW0603 - a process has one terminal
        _current = self
        if self._ticking and self._ticker is None:
            self._over = threading.Event()
            self._ticker = threading.Thread(target=self._tick_until, args=(self._over,), daemon=True)
            self._ticker.start()
        self._draw()

    def tick(self) -> None:
        """Draw the line again, because time has passed."""
        with self._lock:
            self._draw()

    def _tick_until(self, over: threading.Event) -> None:
        while not over.wait(TICK_S):
            self.tick()

    def _draw(self) -> None:
        now = self.clock()
        if self._bar is not None:
            self._bar.note(now)
        text = self._text(now) or ""
        if text != self._shown or (text and now - self._shown_at >= _AGAIN_S):
            self._show(text)

    def _text(self, now: float) -> str | None:
        due = [notice for notice in self._notices.values() if notice.due <= now]
        bar = self._bar
        if bar is not None and not (due and now - bar.changed >= _QUIET_S):
            text = bar.text(self._room(), now)
            if text is not None:
                return text
        if not due:
            return None
        first = min(due, key=lambda notice: notice.asks_at)
        return first.text(self._room(), now, len(self._notices) - 1)

    def _show(self, text: str) -> None:
        if self._terminal is None or not (text or self._shown) or self._is_in_background(self._terminal):
            return
        # Look up the width each time, because the terminal may have been resized. A line that wraps cannot be removed.
        self._write(f"\r{text}\x1b[K")
        self._shown, self._shown_at = text, self.clock()

    def _write(self, text: str) -> None:
        if self._terminal is not None:
            try:
                self._terminal.write(text)
                self._terminal.flush()
            except OSError:  # The terminal is gone. The transfer goes on.
                self._terminal = None

    def _room(self) -> int:
        try:
            columns = os.get_terminal_size(self._terminal.fileno()).columns if self._terminal else 0
        except OSError:
            columns = 0
        return max((columns or _USUAL_COLUMNS) - _ECHO_CELLS, 1)

    @staticmethod
    def _is_in_background(terminal: TextIO) -> bool:
        """Return whether this process is in the background: the shell shows its prompt where the line would be."""
        try:
            return os.tcgetpgrp(terminal.fileno()) != os.getpgrp()
        except OSError:  # not the terminal that controls this process
            return False


def aside() -> contextlib.AbstractContextManager[None]:
    """Return a context in which the caller can write to the terminal: the status line is hidden."""
    return contextlib.nullcontext() if _current is None else _current.hidden()
