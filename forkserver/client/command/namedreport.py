"""Report results of files that were asked for by name and are fetched together. Runs in the client."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from forkserver.client.command.summary import left_out_in_words, plan_in_words
from forkserver.client.display import counted
from forkserver.client.events import Failed, Fetched, LeftOut, Useless, WouldFetch
from forkserver.client.local.leftovers import note_about_part
from forkserver.client.outcome import Exit, Word
from forkserver.client.remote.address import local_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.command.report import Report
    from forkserver.client.events import Event
    from forkserver.client.fetch.counts import Counts
    from forkserver.client.outcome import Failure
    from forkserver.client.remote.address import Location


class NamedReport:
    """Reports each of ``locations`` as if it were the only one. Their files go to ``directory``.

    A name that is there more than once, perhaps in other spellings, is fetched once and reported each time.
    """

    def __init__(self, report: Report, directory: bytes, locations: list[Location]) -> None:
        self._report = report
        self._directory = directory
        self._untold: dict[bytes, list[Location]] = {}
        """The locations that are not reported yet, by name."""
        for location in locations:
            self._untold.setdefault(location.name, []).append(location)
        self._started = time.monotonic()
        self.missing: list[Location] = []
        """Locations that the server does not have."""

    def __call__(self, event: Event) -> None:
        """Report ``event``."""
        match event:
            case Fetched(name, path, receipt):
                place = os.path.normpath(os.path.join(self._directory, path))
                elsewhere = None if place == path else place
                for location in self._untold.pop(name):
                    self._report.fetched(location, receipt, elsewhere, path)
            case Failed(name, failure, None):
                self._fail(self._untold.pop(name), failure)
            case Failed(name, failure, _):
                # Written as a name that is not told yet: those that belong into the directory are among these.
                some = next(iter(self._untold.values()), None)
                self._report.closed(some[0].written(name) if some else name, failure)
            case LeftOut(name, failure):
                for location in self._untold.pop(name):
                    self._report.left_out(location.shown, failure, {})
            case WouldFetch(name, path, size):
                for location in self._untold.pop(name):
                    self._report.planned(location.shown, path, size)
            case Useless():
                self._report.useless(event)

    def _fail(self, locations: list[Location], failure: Failure) -> None:
        if failure.word == Word.NOT_FOUND:
            self.missing.append(locations[0])
            failure.reason += note_about_part(os.path.join(self._directory, local_name(locations[0])))
        for location in locations:
            self._report.failed(location.shown, failure, time.monotonic() - self._started)

    def rest(self, failure: Failure) -> Iterator[Event]:
        """Yield an event for each file that has no result yet when ``failure`` ends the fetch.

        If the disk takes nothing more, or the server does not answer, the first of these files fails, and the others
        are left out. After any other failure, all of these files fail.
        """
        ends_all = failure.exit_status in (Exit.LOCAL_DISK, Exit.UNREACHABLE)
        for number, name in enumerate(list(self._untold)):
            yield LeftOut(name, failure) if number and ends_all else Failed(name, failure)


def finish(report: Report, counts: Counts, *, dry: bool) -> None:
    """Report to people the sum of a dry run, and the number of files that were left out."""
    if dry and (counts.planned_files or counts.unchanged):
        report.concluded(plan_in_words(counts))
    if counts.left_out:
        report.note(left_out_in_words(counted(counts.left_out, "file")))
