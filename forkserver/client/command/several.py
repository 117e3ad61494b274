"""Many names, of one file each, that come together: fetched like a tree, told one by one. Runs at the user's."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from forkserver.client.fetch.grove import fetch_named
from forkserver.client.fetch.watcher import Counter
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Failure, Interrupted
from forkserver.client.remote.address import local_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from forkserver.client.api import Client
    from forkserver.client.command.manifest import Note
    from forkserver.client.command.progress import Progress
    from forkserver.client.command.report import Report
    from forkserver.client.command.run import Options
    from forkserver.client.fetch.download import Receipt
    from forkserver.client.fetch.selection import Item
    from forkserver.client.local.names import Names
    from forkserver.client.remote.address import Location


class Several(Counter):
    """The files ``locations``, each once, and who tells what becomes of them. ``missing`` are not on the server.

    ``progress`` makes one for a large file.
    """

    def __init__(
        self,
        locations: Iterable[Location],
        options: Options,
        report: Report,
        progress: Callable[[Location], Progress],
        note: Note | None,
    ) -> None:
        super().__init__()
        self._waiting = {location.name: location for location in locations}
        self._options = options
        self._report = report
        self._new_progress = progress
        self._progress: Progress | None = None
        self._shown: Item | None = None
        self._here = 0
        self._note = note
        self._started = time.monotonic()
        self.missing: list[Location] = []

    def fetch(self, client: Client, names: Names | None) -> None:
        """Fetch them; every one is told, those among it that were not tried any more. ``names``: as of ``Tree``."""
        options = self._options
        try:
            fetch_named(
                client,
                {name: local_name(location) for name, location in self._waiting.items()},
                options.directory,
                self,
                durable=options.file_durable,
                whole_digest=options.as_json or self._note is not None,
                names=names,
            )
        except Failure as failure:
            for name in list(self._waiting):
                self.failed(name, failure)
        except Interrupted as interruption:
            self._clear()
            interruption.notice = "interrupted; the same command goes on with what is missing"
            raise

    def was_here(self, item: Item, size: int) -> None:
        """A large file begins, and is the one whose progress is shown; small ones have their lines."""
        if item.data.size and item.data.size > PIECE_BYTES:
            self._clear()
            self._progress, self._shown, self._here = self._new_progress(self._waiting[item.name]), item, size
            self._progress(size, item.data.size)

    def came(self, item: Item, size: int) -> None:
        """Progress."""
        if self._progress is not None and item is self._shown:
            self._here += size
            self._progress(self._here, max(self._here, item.data.size or 0))

    def fetched(self, item: Item, receipt: Receipt) -> None:
        """As if it had been the only one."""
        super().fetched(item, receipt)
        location = self._waiting.pop(item.name)
        if self._note is not None:
            self._note(item.path, receipt)
        self._clear()
        self._report.fetched(location, receipt, location.elsewhere(os.path.join(self._options.directory, item.path)))

    def failed(self, name: bytes, failure: Failure) -> None:
        """As if it had been the only one."""
        super().failed(name, failure)
        location = self._waiting.pop(name)
        if failure.word == "not-found":
            self.missing.append(location)
        self._clear()
        self._report.failed(location.shown, failure, time.monotonic() - self._started)

    def _clear(self) -> None:
        if self._progress is not None:
            self._progress.clear()
            self._progress = None
