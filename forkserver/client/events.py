"""The events of a fetch: what the library, the status line and the report are told. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forkserver.client.outcome import Failure, Receipt


class Progress(NamedTuple):
    """``here`` of ``size`` bytes of the file ``name`` have arrived. Sent for every 256 KiB or less."""

    name: bytes
    here: int
    size: int


class Retrying(NamedTuple):
    """A request is about to be made again, after a wait of ``wait_s`` seconds that begins now."""

    session: int
    """The number of the session that waits: ``Session.number``."""
    reason: str
    """Which server failed and how, as ``127.0.0.1:2057 is busy``."""
    asks: str
    """The server that is asked next, or ``again`` if that is the same server."""
    number: int
    """How many waits there have been since the last success; 0: none, another server is asked at once."""
    most: int
    """How many waits there can be before the servers are given up."""
    wait_s: float
    lasting_s: float
    """Seconds since the first failure after the last success."""

    @property
    def text(self) -> str:
        """The event as a clause for people."""
        return self.text_with("")

    def text_with(self, soon: str) -> str:
        """Return ``text`` with the time of the retry in it: ``soon`` is ``" in 2 s"``, or empty."""
        count = f" ({self.number} of {self.most})" if self.number else ""
        return f"{self.reason}, asking {self.asks}{soon}{count}"


class RetryEnded(NamedTuple):
    """The retries of a session are over: a server has answered, or all are given up. May be sent more than once."""

    session: int


class Fetched(NamedTuple):
    """A file of a tree is complete. ``path`` is relative to the directory that the tree goes to."""

    name: bytes
    path: bytes
    receipt: Receipt


class Failed(NamedTuple):
    """A file or directory of a tree could not be fetched."""

    name: bytes
    failure: Failure


class Skipped(NamedTuple):
    """A directory of a tree was skipped: it is behind a symbolic link. It can be fetched by its own name."""

    name: bytes


class Summary(NamedTuple):
    """The result of fetching a tree: counts of files, and bytes in all.

    A directory that cannot be written to counts as one failure. The files that belong there do not count.
    """

    files: int
    unchanged: int
    failed: int
    size: int
    received: int


Event = Progress | Retrying | RetryEnded | Fetched | Failed | Skipped
