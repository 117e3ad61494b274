"""Names of one file each that come together: fetched like a tree, told one by one. Runs at the user's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from forkserver.client.display import count
from forkserver.client.fetch.sweep import Sweep
from forkserver.client.fetch.treeplan import fetch_named
from forkserver.client.fetch.watcher import Counter
from forkserver.client.local.leftovers import note_about_part
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure, Interrupted
from forkserver.client.remote.address import local_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forkserver.client.api import Client
    from forkserver.client.command.manifest import Note
    from forkserver.client.command.progress import Progress
    from forkserver.client.command.report import Report
    from forkserver.client.command.run import Options
    from forkserver.client.fetch.selection import Item
    from forkserver.client.fetch.watcher import Closed
    from forkserver.client.local.names import Names
    from forkserver.client.outcome import Receipt
    from forkserver.client.remote.address import Location


class Several(Counter):
    """Fetches groups of names, and tells what becomes of each name. ``note`` is told of every file that is here.

    ``swept``: as of ``Sweep``.
    """

    def __init__(self, options: Options, report: Report, note: Note | None, swept: set[bytes]) -> None:
        super().__init__()
        self._options = options
        self._report = report
        self._note = note
        self._waiting: dict[bytes, Location] = {}
        self._new_progress: Callable[[Location], Progress] | None = None
        self._progress: Progress | None = None
        self._shown: Item | None = None
        self._here = 0
        self._planned = self._planned_size = 0
        self._untold = 0
        self._started = time.monotonic()
        self._missing: list[Location] = []
        # Without their paths, names do not tell which directory of the server a local directory is.
        self._sweep = Sweep(self, swept, knows_names=options.paths is not False)
        self.ended = False
        """Nothing more can be written, whatever its name."""

    def fetch(
        self,
        client: Client,
        locations: Iterable[Location],
        progress: Callable[[Location], Progress],
        names: Names | None,
    ) -> list[Location]:
        """Fetch ``locations``, each once, and return those that are not on the server.

        Every name is told, also those that were not tried any more. ``progress`` makes one for a large file;
        ``names``: as of ``Tree``.
        """
        options = self._options
        self._waiting = {location.name: location for location in locations}
        self._new_progress = progress
        self._started = time.monotonic()
        self._missing = []
        try:
            fetch_named(
                client,
                {name: local_name(location) for name, location in self._waiting.items()},
                options.directory,
                self,
                durable=options.file_durable,
                wishes=options.wishes(whole_digest=options.as_json),
                names=names,
                sweep=self._sweep,
                dry=options.dry,
            )
        except Failure as failure:
            self._give_up(failure)
        except Interrupted as interruption:
            self._clear()
            interruption.notice = "interrupted; the same command goes on with what is missing"
            raise
        return self._missing

    def _give_up(self, failure: Failure) -> None:
        """Tell all that were not tried any more. A disk that takes nothing more is told with the first of them."""
        for number, name in enumerate(list(self._waiting)):
            if number and failure.exit_status is Exit.LOCAL_DISK:
                self._leave_out(name, failure)
            else:
                self.failed(name, failure)
        self.ended = failure.exit_status is Exit.LOCAL_DISK

    def was_here(self, item: Item, size: int) -> None:
        """A large file begins, and is the one whose progress is shown; small ones have their lines."""
        if item.data.size and item.data.size > PIECE_BYTES and self._new_progress is not None:
            self._clear()
            self._progress, self._shown, self._here = self._new_progress(self._waiting[item.name]), item, size
            self._progress(size, item.data.size)

    def came(self, item: Item, size: int) -> None:
        """Progress."""
        if self._progress is not None and item is self._shown:
            self._here += size
            self._progress(self._here, max(self._here, item.data.size or 0))

    def wanted(self, item: Item) -> None:
        """Tell what a dry run would fetch."""
        self._planned += 1
        self._planned_size += item.data.size or 0
        self._report.planned(self._waiting.pop(item.name).shown, item.path, item.data.size or 0)

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """Tell the name as if it had been the only one."""
        super().fetched(item, receipt)
        location = self._waiting.pop(item.name)
        if self._note is not None:
            self._note(item.path, receipt)
        self._clear()
        place = os.path.normpath(os.path.join(self._options.directory, item.path))
        self._report.fetched(location, receipt, None if place == item.path else place, item.path)

    def failed(self, name: bytes, failure: Failure) -> None:
        """Tell the name as if it had been the only one."""
        super().failed(name, failure)
        location = self._waiting.pop(name)
        if failure.word == "not-found":
            self._missing.append(location)
            failure.reason += note_about_part(os.path.join(self._options.directory, local_name(location)))
        self._clear()
        self._report.failed(location.shown, failure, time.monotonic() - self._started)

    def closed(self, directory: Closed) -> None:
        """Tell the directory at once."""
        self._clear()
        self._report.closed(directory.name, directory.failure)

    def left_out(self, item: Item, directory: bytes, failure: Failure) -> None:
        """Tell the directory once. Programs read of each name."""
        super().left_out(item, directory, failure)
        self._leave_out(item.name, failure)

    def useless(self, path: bytes, source: bytes, size: int) -> None:
        """Tell it."""
        self._clear()
        self._report.useless(path, source, size)

    def _leave_out(self, name: bytes, failure: Failure) -> None:
        self._untold += 1
        self._report.left_out(self._waiting.pop(name).shown, failure, {})

    def tell(self) -> None:
        """Tell people in the end what was not told of single names."""
        if self._options.dry and (self._planned or self._unchanged):
            unchanged = f", {count(self._unchanged)} are here and unchanged" if self._unchanged else ""
            self._report.concluded(
                f"{count(self._planned)} files with {count(self._planned_size)} bytes would be fetched{unchanged}"
            )
        if self._untold:
            self._report.note(
                f"{count(self._untold)} files not fetched, because nothing can be written where they belong"
            )

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.clear()
            self._progress = None
