"""Remember which names were dealt with before a listing began anew. Runs in the client."""

from __future__ import annotations

from forkserver.client.local.hashtable import HashTable


class Seen:
    """Names that were dealt with. Keeps a hash of each name, with the number of its listing.

    Methods raise Failure if there are too many names for the memory, and the disk is full.
    """

    def __init__(self) -> None:
        self._listings = HashTable()
        self._listing = 0

    def add(self, name: bytes) -> None:
        """Note that ``name`` was dealt with."""
        self._listings.setdefault(hash(name), self._listing)

    def begin_anew(self) -> None:
        """Begin another listing, which may repeat names."""
        self._listing += 1

    def before(self, name: bytes) -> bool:
        """Return whether ``name`` was added before the last ``begin_anew``."""
        if not self._listing:
            return False
        listing = self._listings.get(hash(name))
        return listing is not None and listing < self._listing
