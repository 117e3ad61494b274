"""How far a transfer is, and what a run waits for, in the status line of a terminal. Runs at the user's."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

from forkserver.client.command.cells import cells, shorten
from forkserver.client.display import amount, counted, escape, processes, rate
from forkserver.client.events import RetryEnded, Retrying

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.command.statusline import StatusLine
    from forkserver.client.events import Event
    from forkserver.client.outcome import Served

FIRST_AFTER_S = 1.0
EVERY_S = 0.1
_NAME_CELLS = 30
"""Of one of several files: the bar is not to jump with each name."""
_MOST_NAME_CELLS = 1000
_LEAST_BAR_CELLS = 10
_MOST_PIDS = 2
_BETWEEN = "  "


class Speed:
    """The rate of the last seconds, in bytes a second. A time in which this process was stopped does not count."""

    WINDOW_S = 5.0
    GAP_S = 2.5
    """Far more than between two samples of a process that runs: this process was stopped, or the machine suspended."""
    LEAST_S = 0.5

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, now: float, received: int) -> None:
        """Add a sample: until ``now``, in seconds, ``received`` bytes have come."""
        if self._samples and now - self._samples[-1][0] > self.GAP_S:
            self._samples.clear()
        self._samples.append((now, received))
        while now - self._samples[0][0] > self.WINDOW_S:
            self._samples.popleft()

    def per_second(self) -> float | None:
        """Return the rate; None: too little is known."""
        if not self._samples:
            return None
        (began, before), (ended, received) = self._samples[0], self._samples[-1]
        return max(received - before, 0) / (ended - began) if ended - began >= self.LEAST_S else None


class Progress:
    """The bar of a transfer: shows nothing of what is done within a second.

    ``serving`` gives the processes that are at work.
    """

    def __init__(self, name: bytes, line: StatusLine, serving: Callable[[], list[Served]] = list) -> None:
        self._line = line
        self._name = name
        self._name_cells = _MOST_NAME_CELLS
        self._serving = serving
        self._serving_now = ""
        self._speed = Speed()
        self._started = self._next = self.changed = line.clock()
        self._here = 0
        self._size: int | None = None
        self._before: int | None = None

    def __call__(self, here: int, size: int | None) -> None:
        """``here`` of ``size`` bytes are here, the first time those from before; ``size`` is not 0, None: unknown."""
        if self._before is None:
            self._before = here
        self._here, self._size = here, size
        if not self._line.watched:
            return
        self.changed = self._line.clock()
        if self.changed >= self._next or here == size:
            self._next = self.changed + EVERY_S
            serving = self._serving()
            self._serving_now = processes(serving, most=_MOST_PIDS) if serving else ""
            self._line.draw(self)

    def was_here(self, size: int) -> None:
        """Of several files, ``size`` bytes more were here before."""
        self._before = (self._before or 0) + size
        self._here += size

    def at(self, name: bytes, here: int, size: int | None) -> None:
        """As a call, of several files, of which ``name`` is the one in work."""
        self._name, self._name_cells = name, _NAME_CELLS
        self._before = self._before or 0  # ``was_here`` tells those from before
        self(here, size)

    def clear(self) -> None:
        """The transfer is over, well or not: give the terminal a fresh line."""
        self._line.finish(self)

    def note(self, now: float) -> None:
        """Take a sample for the rate."""
        self._speed.note(now, self._here - (self._before or 0))

    def text(self, room: int, now: float) -> str | None:
        """Return the line, in at most ``room`` cells; None in the first second.

        Where there is little room, the bar, the processes, the time left, half of a long name, and the rate are left
        out in this order.
        """
        if now - self._started < FIRST_AFTER_S:
            return None
        name = shorten(self._line.printable(escape(self._name)), self._name_cells, self._line.ellipsis)
        facts = self._facts()
        while True:
            parts = [fact for fact in facts if fact]
            rest = room - sum(cells(part) + len(_BETWEEN) for part in parts)
            if rest >= min(cells(name), room // 2) or len(facts) == 1:
                break
            facts.pop()
        name = shorten(name, max(rest, 0), self._line.ellipsis)
        bar_cells = rest - cells(name) - len(_BETWEEN + "[]")
        if self._size is not None and bar_cells >= _LEAST_BAR_CELLS:
            parts.insert(0, f"[{self._bar(bar_cells)}]")
        return _BETWEEN.join([name, *parts] if name else parts)

    def _bar(self, bar_cells: int) -> str:
        return ("#" * int(bar_cells * self._share)).ljust(bar_cells, "-")

    @property
    def _share(self) -> float:
        return min(self._here / self._size, 1.0) if self._size else 0.0

    def _facts(self) -> list[str]:
        """What is told behind the bar, the most important first."""
        speed = self._speed.per_second()
        fast = "" if speed is None else rate(speed)
        if self._size is None:
            return [fast, f"{amount(self._here)} so far", self._serving_now]
        left = _duration((self._size - self._here) / speed) if speed and self._here < self._size else ""
        return [f"{int(self._share * 100):3}%", fast, left, self._serving_now]


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:d}:{minutes:02d}:{seconds:02d}"


class RetryNotices:
    """Show in the status line which servers are being asked again: consumes ``Retrying`` and ``RetryEnded``.

    A notice is shown when the retries of a session take longer than a second in all.
    """

    def __init__(self, line: StatusLine) -> None:
        self._line = line

    def __call__(self, event: Event) -> None:
        """Show the notice of a session in the place of an earlier one, or take it away."""
        if isinstance(event, Retrying):
            if self._line.watched:
                self._line.notify(event.session, Asking(event, self._line))
        elif isinstance(event, RetryEnded):
            self._line.withdraw(event.session)


class Asking:
    """The notice of one retry: counts down until the server is asked, and stays until it has answered."""

    def __init__(self, retry: Retrying, line: StatusLine) -> None:
        now = line.clock()
        self._retry = retry
        self._line = line
        self.asks_at = now + retry.wait_s
        # A wait that will be shown is shown from its beginning.
        short_s = FIRST_AFTER_S - retry.lasting_s
        self.due = now if retry.wait_s >= short_s else now + short_s

    def text(self, room: int, now: float, others: int) -> str:
        """Return the line, in at most ``room`` cells: as much of the notice as there is room for."""
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
