"""Events of a fetch, as typed values. The fetch calls ``on_event`` with each event. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.outcome import Failure, Receipt


class Progress(NamedTuple):
    """``here`` of ``size`` bytes of the file ``name`` are here, and ``kept`` bytes were here before this run.

    The first event of a file comes before the first byte, each later event after at most 256 KiB. A file of a tree that
    comes in one go has no such event.
    """

    name: bytes
    here: int
    size: int
    kept: int = 0


class Retrying(NamedTuple):
    """A request is about to be made again, after a wait of ``wait_s`` seconds that begins now."""

    session: int
    """The number of the session that waits: ``Session.number``."""
    reason: str
    """Which server failed and how, as ``127.0.0.1:2057 is busy``."""
    asks: str
    """The server that is asked next, or ``again`` if that is the same server."""
    number: int
    """How many waits there have been since the last success; 0: none, the next server is asked at once."""
    most: int
    """How many waits there can be before the session gives up."""
    wait_s: float
    lasting_s: float
    """Seconds since the first failure after the last success."""

    @property
    def text(self) -> str:
        """The event as a clause for people, without the time of the retry."""
        return self.text_with("")

    def text_with(self, soon: str) -> str:
        """Return the event as a clause for people. ``soon``, the time of the retry, is ``" in 2 s"`` or empty."""
        count = f" ({self.number} of {self.most})" if self.number else ""
        return f"{self.reason}, asking {self.asks}{soon}{count}"


Waiting = Retrying
"""The library's name for ``Retrying``."""


class RetryEnded(NamedTuple):
    """The retries of a session are over: a server has answered, or the session gives up. May come more than once."""

    session: int


class Planned(NamedTuple):
    """The plan of a tree is complete: its files have ``size`` bytes in all."""

    size: int


class Fetched(NamedTuple):
    """A file of a tree is here. ``path`` is relative to the local directory of the tree."""

    name: bytes
    path: bytes
    receipt: Receipt


class Failed(NamedTuple):
    """A file or directory of a tree could not be fetched, listed or deleted.

    If ``directory`` is not None, nothing can be written into this local directory, whose path is relative to the local
    directory of the tree. ``name`` is then the name of the directory. The event comes once, and a ``LeftOut`` follows
    for each file that belongs there.
    """

    name: bytes
    failure: Failure
    directory: bytes | None = None


class LeftOut(NamedTuple):
    """A file was not tried because of the ``failure`` of its local ``directory``; None stands for the whole disk."""

    name: bytes
    failure: Failure
    directory: bytes | None = None


class Skipped(NamedTuple):
    """A directory of a tree lies behind a symbolic link, and is left out. The user can fetch it by its own name."""

    name: bytes


class WouldFetch(NamedTuple):
    """A dry run would fetch a file of ``size`` bytes to ``path``."""

    name: bytes
    path: bytes
    size: int


class Deleted(NamedTuple):
    """The local ``path``, which the server does not have, was deleted, or would be deleted in a dry run."""

    path: bytes


class Swept(NamedTuple):
    """Temporary files of killed runs were removed; ``files`` is their number."""

    files: int


class Useless(NamedTuple):
    """The local part ``path``, of ``size`` bytes, belongs to the file ``source``, which the server no longer has."""

    path: bytes
    source: bytes
    size: int


Event: TypeAlias = (
    Progress
    | Retrying
    | RetryEnded
    | Planned
    | Fetched
    | Failed
    | LeftOut
    | Skipped
    | WouldFetch
    | Deleted
    | Swept
    | Useless
)
OnEvent: TypeAlias = "Callable[[Event], None]"


class Summary(NamedTuple):
    """Counts of the files of a tree, and bytes in all.

    A directory that nothing could be written into counts as one failure, and the files that belong there do not count.
    """

    files: int
    unchanged: int
    failed: int
    size: int
    received: int
