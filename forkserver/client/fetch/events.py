"""What happens in a fetch, as values for who fetches from Python. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forkserver.client.fetch.download import Receipt
    from forkserver.client.outcome import Failure


class Progress(NamedTuple):
    """``here`` of ``size`` bytes of the file ``name`` are here. Tells of a part of 256 KiB or less."""

    name: bytes
    here: int
    size: int


class Waiting(NamedTuple):
    """A server is asked again, or another is, after ``wait_s`` seconds: ``text`` tells which and why."""

    text: str
    wait_s: float = 0.0


class Fetched(NamedTuple):
    """A file of a tree is here: ``path`` is relative to the directory that the tree goes to."""

    name: bytes
    path: bytes
    receipt: Receipt


class Failed(NamedTuple):
    """Something of a tree is not."""

    name: bytes
    failure: Failure


class Skipped(NamedTuple):
    """A directory of a tree lies behind a symbolic link: it can be fetched by its own name."""

    name: bytes


class Summary(NamedTuple):
    """What became of a tree: counts of files, and bytes in all.

    A directory that nothing could be written into counts as one failure, and the files that belong there do not count.
    """

    files: int
    unchanged: int
    failed: int
    size: int
    received: int


Event = Progress | Waiting | Fetched | Failed | Skipped
