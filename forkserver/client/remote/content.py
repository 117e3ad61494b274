"""What takes a content, piece by piece. Runs at the user's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forkserver.client.remote.answers import Known, Version


class Target(Protocol):
    """Takes one content: ``begin``, then pieces, each in one or more ``write`` and ``verified``, at last ``finish``.

    Pieces may come from versions of several servers; then, before ``finish``, one of them has to vouch for all:
    ``vouch_by`` tells which, ``doubtful`` gives those that it has not, and for each of these ``verified`` or ``forget``
    tells what it said. Several threads may ``write`` and call ``verified``, each for a piece of its own. Each method
    raises Failure with ``Exit.LOCAL_DISK``.
    """

    def location(self) -> tuple[int, bytes] | None:
        """Return a descriptor of the directory and the name in it that the content gets; None: it gets no name."""

    def left_over(self) -> bool:
        """Whether a part may be here already."""

    def begin(self, version: Version) -> Iterable[tuple[int, int]]:
        """The server has this version. Gives offset and length of the pieces that are missing, in order.

        A server may lie about the size: there can be more of them than could be held at once.
        """

    def begun(self) -> Iterable[tuple[int, int, str]]:
        """Return offset, length and SHA-256 of what is here of pieces that are missing: nobody vouches for that yet."""

    def joined(self, offset: int, length: int) -> str:
        """Return the SHA-256, in hexadecimal digits, of a piece that is here and whose beginning was here before."""

    def write(self, offset: int, data: memoryview) -> None:
        """Take some bytes of a piece, those at ``offset``."""

    def verified(self, offset: int, length: int, digest: str, version: Version) -> None:
        """The piece is that of ``version``: ``digest`` is its SHA-256, in hexadecimal digits."""

    def vouch_by(self, version: Version) -> None:
        """It is to become this version."""

    def doubtful(self) -> Iterable[tuple[int, int, str]]:
        """Offset, length and digest of the pieces that are here and not known to be of that version."""

    def forget(self, offset: int) -> None:
        """The piece at ``offset`` is not."""

    def finish(self, known: Known) -> None:
        """All pieces are."""

    def digest(self) -> str | None:
        """The SHA-256 of all of it, in hexadecimal digits. Before ``finish``."""

    def reject(self) -> None:
        """It is not what the user wants; instead of ``finish``."""

    @property
    def takes_any_order(self) -> bool:
        """Whether the pieces may come in any order."""

    @property
    def here(self) -> int:
        """How many bytes are here and verified."""

    @property
    def discarded(self) -> bool:
        """Whether a part of another version was here, and is no longer."""
