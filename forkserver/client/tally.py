"""What becomes of a tree, counted and told: every failure, and in the end one line. Runs at the user's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forkserver.client.display import count, escape
from forkserver.client.tree import Watcher

if TYPE_CHECKING:
    from forkserver.client.address import Location
    from forkserver.client.fetch import Receipt
    from forkserver.client.manifest import Note
    from forkserver.client.outcome import Failure
    from forkserver.client.progress import Progress
    from forkserver.client.report import Report
    from forkserver.client.tree import Item

_MOST_PIDS = 4


class Tally(Watcher):
    """Of one tree, that of ``location``. ``progress`` shows how far it is; ``verbose``: a line for each file.

    ``note`` is told of every file that is here.
    """

    def __init__(
        self, location: Location, report: Report, progress: Progress, note: Note | None, *, verbose: bool
    ) -> None:
        self._location = location
        self._report = report
        self._progress = progress
        self._note = note
        self._verbose = verbose
        self._started = time.monotonic()
        self._files = self._unchanged = self._skipped = self._failed = 0
        self._size = self._received = 0
        self._here = self._wanted = 0
        self._pids: dict[int, None] = {}

    def listed(self, files: int, size: int) -> None:  # noqa: ARG002 - bytes are the better measure
        """Now it is known how much there is."""
        self._wanted = size

    def came(self, item: Item, size: int) -> None:
        """Progress."""
        self._here += size
        if self._wanted:
            self._progress.at(item.path, self._here, max(self._wanted, self._here))

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """Count it."""
        if self._note is not None:
            self._note(item.path, receipt)
        self._files += 1
        self._unchanged += receipt.unchanged
        self._size += receipt.size
        self._received += receipt.received
        for served in receipt.served:
            self._pids[served.pid] = None
        self._report.fetched_of_tree(item.name, item.path, receipt, verbose=self._verbose)

    def failed(self, name: bytes, failure: Failure) -> None:
        """Tell it, and make the run a failure."""
        self._failed += 1
        self._progress.clear()
        self._report.failed(name, failure, time.monotonic() - self._started)

    def skipped(self, name: bytes) -> None:
        """A link: its directory can be fetched by its own name."""
        self._skipped += 1
        if self._verbose:
            self._progress.clear()
            self._report.note(f"{escape(name)}: a symbolic link to a directory, not followed")

    def tell(self, *, done: bool) -> None:
        """One line; none where it came to an end before anything was ``done``."""
        self._progress.clear()
        if not (done or self._files):
            return
        seconds = time.monotonic() - self._started
        parts = [f"{count(self._files)} files", f"{count(self._size)} bytes"]
        if self._unchanged:
            parts.append(
                f"{count(self._unchanged)} of them unchanged" if self._unchanged < self._files else "unchanged"
            )
        if self._received:
            parts += ["sha256 verified", f"{seconds:.2f} s", f"{self._received / max(seconds, 0.001) / 1e6:,.1f} MB/s"]
        if self._skipped:
            parts.append(f"{count(self._skipped)} directories behind symbolic links left out")
        if self._failed:
            parts.append(f"{count(self._failed)} failed")
        if self._pids:
            shown = ", ".join(map(str, list(self._pids)[:_MOST_PIDS]))
            more = f" and {len(self._pids) - _MOST_PIDS} others" if len(self._pids) > _MOST_PIDS else ""
            parts.append(f"served by PID{'s' if len(self._pids) > 1 else ''} {shown}{more}")
        self._report.summary(self._location, ", ".join(parts))
