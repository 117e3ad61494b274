"""A content and where it goes: the values that ``local`` and ``remote`` share. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable


class Version(NamedTuple):
    """One version of one file on one server. ``mtime_ns`` is in nanoseconds since 1970."""

    size: int
    etag: str
    mtime_ns: int
    server: str

    @property
    def origin(self) -> tuple[str, str]:
        """The etag and the server, which together tell this version from every other version of the file."""
        return self.etag, self.server


class Known(NamedTuple):
    """The first answer of a server about a file: its version and its permission bits."""

    version: Version
    mode: int


class Target(Protocol):
    """The place that takes one content: ``begin``, then the pieces, then ``finish``.

    Each piece is one or more ``write`` and then ``verified``. Several threads may call these two, each thread for a
    separate piece. If pieces came from several servers, one server must confirm all of them before ``finish``:
    ``vouch_by`` names the version of this server, and ``doubtful`` lists the pieces of other origin. Then ``verified``
    or ``forget`` is called for each of these pieces. Every method raises Failure with ``Exit.LOCAL_DISK``.
    """

    def location(self) -> tuple[int, bytes] | None:
        """Return a descriptor of the directory and the name there that the content gets; None: it gets no name."""

    def left_over(self) -> bool:
        """Whether a part of an earlier run may be here."""

    def begin(self, version: Version) -> Iterable[tuple[int, int]]:
        """Begin to take ``version``. Return offset and length of each missing piece, in order.

        Do not hold all of them at once: a server may lie about the size, and there may be too many.
        """

    def begun(self) -> Iterable[tuple[int, int, str]]:
        """Return offset, length and SHA-256 of the beginnings of missing pieces that are here and not yet confirmed."""

    def joined(self, offset: int, length: int) -> str:
        """Return the SHA-256, in hexadecimal digits, of a piece that is here and whose beginning was here before."""

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes of a piece at ``offset`` of the content."""

    def verified(self, offset: int, length: int, digest: str, version: Version) -> None:
        """Note that a piece belongs to ``version``: ``digest`` is its SHA-256, in hexadecimal digits."""

    def vouch_by(self, version: Version) -> None:
        """Choose the version that the content is to become."""

    def doubtful(self) -> Iterable[tuple[int, int, str]]:
        """Return offset, length and digest of the pieces here that are not known to be of the chosen version."""

    def forget(self, offset: int) -> None:
        """Drop the piece at ``offset``: the chosen version has other bytes there."""

    def finish(self, known: Known) -> None:
        """Complete the content: all pieces are here and of the chosen version."""

    def digest(self) -> str | None:
        """Return the SHA-256 of the whole content, in hexadecimal digits. Call before ``finish``."""

    def reject(self) -> None:
        """Discard the content, which is not the one that the user expects. Called instead of ``finish``."""

    @property
    def takes_any_order(self) -> bool:
        """Whether the pieces may come in any order."""

    @property
    def here(self) -> int:
        """How many bytes are here and verified."""

    @property
    def discarded(self) -> bool:
        """Whether a part of another version was here and has been discarded."""
