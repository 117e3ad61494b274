"""Count the events of a fetch. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkserver.client.events import Deleted, Failed, Fetched, LeftOut, Skipped, Summary, Swept, WouldFetch

if TYPE_CHECKING:
    from forkserver.client.events import Event
    from forkserver.client.outcome import Served


class Counts:
    """Counts the events of a fetch."""

    def __init__(self) -> None:
        self.files = self.unchanged = self.failed = self.skipped = self.left_out = 0
        self.size = self.received = 0
        self.planned_files = self.planned_size = self.deleted = self.swept = 0
        self.served: dict[Served, None] = {}
        """The processes that sent a part of a file, or said that a file is unchanged, in order."""

    def __call__(self, event: Event) -> None:
        """Count ``event``."""
        match event:
            case Fetched(receipt=receipt):
                self.files += 1
                self.unchanged += receipt.unchanged
                self.size += receipt.size
                self.received += receipt.received
                self.served.update(dict.fromkeys(receipt.served))
            case Failed():
                self.failed += 1
            case LeftOut():
                self.left_out += 1
            case Skipped():
                self.skipped += 1
            case WouldFetch(size=size):
                self.planned_files += 1
                self.planned_size += size
            case Deleted():
                self.deleted += 1
            case Swept(files=files):
                self.swept += files

    @property
    def summary(self) -> Summary:
        """The counts that a library call returns."""
        return Summary(self.files, self.unchanged, self.failed, self.size, self.received)
