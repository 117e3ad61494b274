"""Report the fetch of a tree: every failure, and one line in the end. Runs in the client."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from forkserver.client.command.summary import plan_in_words, tree_in_words
from forkserver.client.display import decode, escape
from forkserver.client.events import Deleted, Failed, Fetched, LeftOut, Skipped, Useless, WouldFetch

if TYPE_CHECKING:
    from forkserver.client.command.report import Report
    from forkserver.client.events import Event
    from forkserver.client.fetch.counts import Counts
    from forkserver.client.remote.address import Location


class TreeReport:
    """Reports the events of the tree at ``location``. ``counts`` counts the same events.

    ``verbose``: a line for each file. ``dry``: nothing is done, only told.
    """

    def __init__(self, report: Report, location: Location, counts: Counts, *, verbose: bool, dry: bool) -> None:
        self._report = report
        self._location = location
        self._counts = counts
        self._verbose = verbose
        self._dry = dry
        self._started = time.monotonic()
        self._closed: dict[bytes, Failed] = {}
        """Local directories that nothing can be written into."""
        self._left_out: Counter[bytes] = Counter()
        """How many files are left out of each of these directories."""

    def __call__(self, event: Event) -> None:
        """Report ``event``."""
        match event:
            case Fetched():
                self._report.fetched_of_tree(event, verbose=self._verbose)
            case Failed(name, failure, None):
                self._report.failed(name, failure, time.monotonic() - self._started, self._location.written(name))
            case Failed(name, failure, bytes() as directory):
                self._closed[directory] = event
                self._report.closed(self._location.written(name) if directory else self._location.shown, failure)
            case LeftOut(directory=bytes() as directory):
                self._left_out[directory] += 1
            case Skipped(name) if self._verbose:
                shown = escape(self._location.written(name))
                self._report.note(f"{shown}: a symbolic link to a directory, not followed")
            case WouldFetch(name, path, size):
                self._report.planned(name, path, size)
            case Deleted(path):
                self._report.deleted(path, dry=self._dry)
            case Useless():
                self._report.useless(event)

    def finish(self, *, done: bool) -> None:
        """Report the tree in one line, unless the fetch ended early (not ``done``) and fetched no file."""
        for directory, event in self._closed.items():
            facts: dict[str, object] = {"path": decode(directory), "files": self._left_out[directory]}
            self._report.left_out(event.name, event.failure, facts)
        if done or self._counts.files:
            counts, seconds = self._counts, time.monotonic() - self._started
            text = plan_in_words(counts, counts.failed) if self._dry else tree_in_words(counts, seconds)
            broken_off = "" if done else "; broken off, the same command goes on"
            self._report.concluded(f"{escape(self._location.shown)}: {text}{broken_off}")
