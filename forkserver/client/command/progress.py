"""Show in the status line how far a transfer is. Runs in the client."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from forkserver.client.command.cells import cells, shorten
from forkserver.client.command.statusline import FIRST_AFTER_S
from forkserver.client.display import amount, escape, processes, rate
from forkserver.client.events import Failed, Fetched, Planned, Progress, Useless

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.command.statusline import StatusLine
    from forkserver.client.events import Event
    from forkserver.client.outcome import Served
    from forkserver.client.remote.address import Location

EVERY_S = 0.1
_NAME_CELLS = 30
"""Most cells of a name in a tree. The bar must not jump with each name."""
_MOST_NAME_CELLS = 1000
_LEAST_BAR_CELLS = 10
_MOST_PIDS = 2
_BETWEEN = "  "


class Speed:
    """The rate of the last seconds, in bytes a second. The time in which this process was stopped does not count."""

    WINDOW_S = 5.0
    GAP_S = 2.5
    """If two samples are further apart than this, the process was stopped or the machine suspended."""
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
        """Return the rate, or None while too little is known."""
        if not self._samples:
            return None
        (began, before), (ended, received) = self._samples[0], self._samples[-1]
        return max(received - before, 0) / (ended - began) if ended - began >= self.LEAST_S else None


class ProgressBar:
    """The bar of a transfer. The bar shows nothing if the transfer ends within a second after ``started``.

    ``serving`` returns the processes that serve the transfer.
    """

    def __init__(
        self,
        name: bytes,
        line: StatusLine,
        serving: Callable[[], list[Served]] = list,
        started: float | None = None,
    ) -> None:
        self._line = line
        self._name = name
        self._name_cells = _MOST_NAME_CELLS
        self._serving = serving
        self._serving_now = ""
        self._speed = Speed()
        self._next = self.changed = line.clock()
        self._started = self._next if started is None else started
        self._here = self._kept = 0
        self._size: int | None = None

    def update(self, here: int, size: int | None, kept: int = 0, name: bytes | None = None) -> None:
        """Show that ``here`` of ``size`` bytes are here, and that ``kept`` of these were here before.

        ``size`` is not 0, and None while the size is not known. ``name`` is the one of several files that grew.
        """
        self._here, self._size, self._kept = here, size, kept
        if name is not None:
            self._name, self._name_cells = name, _NAME_CELLS
        if not self._line.watched:
            return
        self.changed = self._line.clock()
        if self.changed >= self._next or here == size:
            self._next = self.changed + EVERY_S
            serving = self._serving()
            self._serving_now = processes(serving, most=_MOST_PIDS) if serving else ""
            self._line.draw(self)

    def finish(self) -> None:
        """Leave the bar as it is, and begin a fresh line: the transfer has ended, well or not."""
        self._line.finish(self)

    def note(self, now: float) -> None:
        """Take a sample for the rate."""
        self._speed.note(now, self._here - self._kept)

    def text(self, room: int, now: float) -> str | None:
        """Return the line, in at most ``room`` cells, or None in the first second.

        If there is little room, leave out, in this order: the bar, the processes, the time left, half of a long name,
        the rate.
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
            done = "#" * int(bar_cells * self._share)
            parts.insert(0, f"[{done:-<{bar_cells}}]")
        return _BETWEEN.join([name, *parts] if name else parts)

    @property
    def _share(self) -> float:
        return min(self._here / self._size, 1.0) if self._size else 0.0

    def _facts(self) -> list[str]:
        """Return the texts behind the bar, the most important first. An empty text is left out."""
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


class FileProgress:
    """Shows the bar of the named file that began last. ``written`` returns a name as the user wrote it."""

    def __init__(
        self, line: StatusLine, serving: Callable[[], list[Served]], written: Callable[[bytes], bytes]
    ) -> None:
        self._line = line
        self._serving = serving
        self._written = written
        self._started: float | None = line.clock()
        self._bar: ProgressBar | None = None
        self._name: bytes | None = None

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        match event:
            case Progress(name, here, size, kept):
                if name != self._name and here == kept:
                    self.finish()
                    self._name = name
                    self._bar = ProgressBar(self._written(name), self._line, self._serving, self._started)
                if self._bar is not None and name == self._name:
                    self._bar.update(here, size, kept)
            case Fetched() | Failed() | Useless():
                self.finish()

    def finish(self) -> None:
        """Begin a fresh line, if there is a bar."""
        if self._bar is not None:
            self._bar.finish()
            self._bar = self._name = self._started = None


class TreeProgress:
    """Shows the bar of the tree at ``location``, with the name of the file that grew last."""

    def __init__(self, line: StatusLine, serving: Callable[[], list[Served]], location: Location) -> None:
        self._bar = ProgressBar(location.shown, line, serving)
        self._watched = line.watched
        self._written = location.written
        self._here = self._kept = self._size = 0
        self._begun: dict[bytes, tuple[int, int]] = {}
        """For each file that is not complete: how many bytes are here, and how many were here before."""

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        if not self._watched:
            return
        match event:
            case Fetched(name, _, receipt):
                self._count(name, receipt.size, receipt.size if receipt.unchanged else receipt.kept)
                del self._begun[name]
            case Progress(name, here, _, kept):
                self._count(name, here, kept)
            case Planned(size):
                self._size = size
            case Failed(directory=bytes()) | Useless():
                self.finish()

    def _count(self, name: bytes, here: int, kept: int) -> None:
        here_before, kept_before = self._begun.get(name, (0, 0))
        self._begun[name] = here, kept
        self._here += here - here_before
        self._kept += kept - kept_before
        size = max(self._size, self._here) if self._size else None
        self._bar.update(self._here, size, self._kept, self._written(name))

    def finish(self) -> None:
        """Begin a fresh line."""
        self._bar.finish()
