"""What was dealt with before a listing began anew. Runs at the user's."""

from __future__ import annotations

from array import array
from bisect import bisect_left


class Seen:
    """Names, of which there may be millions: each is kept as a hash of eight bytes."""

    def __init__(self) -> None:
        self._now = array("q")
        self._before = array("q")

    def add(self, name: bytes) -> None:
        """It is dealt with."""
        self._now.append(hash(name))

    def begin_anew(self) -> None:
        """From now on names come that may have come before."""
        self._before = array("q", sorted(self._before + self._now))
        self._now = array("q")

    def before(self, name: bytes) -> bool:
        """Whether it was added before the last ``begin_anew``."""
        if not self._before:
            return False
        wanted = hash(name)
        place = bisect_left(self._before, wanted)
        return place < len(self._before) and self._before[place] == wanted
