"""What becomes of a tree, counted and told: every failure, and in the end one line. Runs at the user's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forkserver.client import display
from forkserver.client.display import count, counted, escape
from forkserver.client.fetch.watcher import Counter

if TYPE_CHECKING:
    from forkserver.client.command.manifest import Note
    from forkserver.client.command.progress import Progress
    from forkserver.client.command.report import Report
    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.watcher import Closed
    from forkserver.client.outcome import Failure, Receipt, Served
    from forkserver.client.remote.address import Location

_MOST_PIDS = 4


class Tally(Counter):
    """Of one tree, that of ``location``. ``progress`` shows how far it is; ``verbose``: a line for each file.

    ``note`` is told of every file that is here. ``dry``: nothing is done, only told.
    """

    def __init__(  # noqa: PLR0913 - all that a tree is told with, each once
        self, location: Location, report: Report, progress: Progress, note: Note | None, *, verbose: bool, dry: bool
    ) -> None:
        super().__init__()
        self._location = location
        self._report = report
        self._progress = progress
        self._note = note
        self._verbose = verbose
        self._dry = dry
        self._started = time.monotonic()
        self._here = self._wanted = 0
        self._planned = self._planned_size = self._deleted = self._swept = 0
        self._pids: dict[Served, None] = {}

    def listed(self, size: int) -> None:
        """Now it is known how much there is."""
        self._wanted = size

    def was_here(self, item: Item, size: int) -> None:  # noqa: ARG002 - of whichever file
        """It is no speed of ours."""
        self._here += size
        self._progress.was_here(size)

    def came(self, item: Item, size: int) -> None:
        """Progress."""
        self._here += size
        self._progress.at(item.path, self._here, max(self._wanted, self._here) if self._wanted else None)

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """Count it."""
        if self._note is not None:
            self._note(item.path, receipt)
        super().fetched(item, receipt)
        for served in receipt.served:
            self._pids[served] = None
        self._report.fetched_of_tree(item.name, item.path, receipt, verbose=self._verbose)

    def failed(self, name: bytes, failure: Failure) -> None:
        """Tell it, and make the run a failure."""
        super().failed(name, failure)
        self._report.failed(name, failure, time.monotonic() - self._started, self._location.written(name))

    def closed(self, directory: Closed) -> None:
        """Tell it at once. How much is left out is told in the end."""
        self._progress.clear()
        self._report.closed(directory.name if directory.path else self._location.shown, directory.failure)

    def swept(self, files: int) -> None:
        """Count them."""
        self._swept += files

    def useless(self, path: bytes, source: bytes, size: int) -> None:
        """Tell it."""
        self._progress.clear()
        self._report.useless(path, source, size)

    def skipped(self, name: bytes) -> None:
        """A link: its directory can be fetched by its own name."""
        super().skipped(name)
        if self._verbose:
            self._report.note(f"{escape(self._location.written(name))}: a symbolic link to a directory, not followed")

    def wanted(self, item: Item) -> None:
        """Of a dry run every file is told: that is what it is for."""
        self._planned += 1
        self._planned_size += item.data.size or 0
        self._report.planned(item.name, item.path, item.data.size or 0)

    def deleted(self, path: bytes) -> None:
        """Every one is told."""
        self._deleted += 1
        self._report.deleted(path, dry=self._dry)

    def tell(self, *, done: bool) -> None:
        """One line; none where it came to an end before anything was ``done``."""
        self._progress.clear()
        self._tell_closed()
        if not (done or self._files):
            return
        if self._dry:
            self._tell_plan()
            return
        seconds = time.monotonic() - self._started
        parts = [counted(self._files, "file"), counted(self._size, "byte")]
        if self._unchanged:
            parts.append(
                f"{count(self._unchanged)} of them unchanged" if self._unchanged < self._files else "unchanged"
            )
        if self._received:
            parts += ["sha256 verified", f"{seconds:.2f} s", display.rate(self._received / max(seconds, 0.001))]
        if self._skipped:
            parts.append(_left_out(self._skipped))
        if self._failed:
            parts.append(f"{count(self._failed)} failed")
        parts += self._left_out()
        if self._pids:
            parts.append(f"served by {display.processes(self._pids, most=_MOST_PIDS)}")
        if self._deleted:
            parts.append(f"{count(self._deleted)} deleted here")
        if self._swept:
            parts.append(f"{count(self._swept)} temporary files of killed runs removed")
        self._report.summary(self._location, ", ".join(parts))

    def _tell_closed(self) -> None:
        for each in self._closed.values():
            facts: dict[str, object] = {"path": display.decode(each.path), "files": each.files}
            self._report.left_out(each.name, each.failure, facts)

    def _left_out(self) -> list[str]:
        files = sum(each.files for each in self._closed.values())
        return [f"{count(files)} not fetched, because nothing can be written where they belong"] if files else []

    def _tell_plan(self) -> None:
        parts = [f"{counted(self._planned, 'file')} with {counted(self._planned_size, 'byte')} would be fetched"]
        if self._unchanged:
            parts.append(f"{count(self._unchanged)} {'is' if self._unchanged == 1 else 'are'} here and unchanged")
        if self._deleted:
            parts.append(f"{count(self._deleted)} would be deleted here")
        if self._failed:
            parts.append(f"{count(self._failed)} failed")
        self._report.summary(self._location, ", ".join(parts))


def _left_out(links: int) -> str:
    if links == 1:
        return "1 directory behind a symbolic link left out"
    return f"{count(links)} directories behind symbolic links left out"
