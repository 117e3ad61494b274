"""The pieces of one file that are still to be fetched, shared by all who fetch them. Runs at the user's."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.content import Target, Version
    from forkserver.client.outcome import Served


class Wishes(NamedTuple):
    """What else is wanted of one file.

    ``expected`` is what the SHA-256 of the whole must be, in hexadecimal digits. ``whole_digest``: find it out in any
    case. ``by_content``: a file that is here is unchanged only if its content is the server's, not by what was noted.
    """

    expected: str | None = None
    whole_digest: bool = False
    by_content: bool = False


NO_WISHES = Wishes()


class Job:
    """One file on its way: which pieces are still to be fetched, and what was. For all threads that fetch them."""

    def __init__(self, name: bytes, target: Target, progress: Callable[[int, int], None], wishes: Wishes) -> None:
        self.name = name
        self.target = target
        self.wishes = wishes
        self.unchanged = False
        self.digest: str | None = None
        """Of the whole, where a comparison has found it out."""
        self.size = self.received = self.here = 0
        self.kept = 0
        """Bytes that were here before, and are right."""
        self._found = 0
        """Bytes that were here before, right or not."""
        self.served: list[Served] = []
        self.stopped: BaseException | None = None
        self.over = False
        """Everything is here."""
        self._progress = progress
        self._missing: Iterator[tuple[int, int]] = iter(())
        self._returned: deque[tuple[int, int]] = deque()
        self._taken = 0
        self._fetched: set[int] = set()
        """Offsets of the pieces that came in this run."""
        self._heads: dict[int, tuple[int, tuple[str, str]]] = {}
        """What need not come of missing pieces, by their offsets: how many bytes, and the origin of these."""
        self._changed = threading.Condition()
        self._most_here = 0

    def begin(self, version: Version) -> None:
        """The file is this version: find out what is missing."""
        self._missing = iter(self.target.begin(version))
        self.here = self.kept = self._found = self.target.here
        if self.size:
            self._progress(self.here, self.size)

    @property
    def began_anew(self) -> bool:
        """Whether a part was here before, and nothing of it is right."""
        return self.target.discarded or self._found > self.kept == 0

    def take(self, *, wait: bool) -> tuple[int, int] | None:
        """Offset and length of a piece for the caller to fetch.

        None: there is none now, or, where the caller can ``wait`` for what others may give back, no more.
        """
        with self._changed:
            while self.stopped is None and not self.over:
                piece = self._returned.popleft() if self._returned else next(self._missing, None)
                if piece is not None:
                    self._taken += 1
                    return piece
                if not (wait and self._taken):
                    return None
                self._changed.wait()
        return None

    def give_back(self, pieces: Iterator[tuple[int, int]], came_bytes: int) -> None:
        """Others may fetch them. ``came_bytes`` of one of them had come."""
        with self._changed:
            for piece in pieces:
                self._returned.append(piece)
                self._taken -= 1
            self.here -= came_bytes
            self._changed.notify_all()

    def keep_head(self, offset: int, length: int, version: Version) -> None:
        """The first ``length`` bytes of the piece at ``offset`` are here, and are those of ``version``."""
        with self._changed:
            self._heads[offset] = length, version.origin
            self.here += length
            self.kept += length
            self._found += length

    def head(self, offset: int, version: Version) -> int:
        """Return how many bytes of the missing piece at ``offset`` need not be fetched of ``version``."""
        with self._changed:
            length, origin = self._heads.get(offset, (0, version.origin))
            if origin == version.origin:
                return length
            # The two parts of a piece must be of one version: its digest will vouch for both.
            del self._heads[offset]
            self.here -= length
            self.kept -= length
            return 0

    def fetch_again(self, piece: tuple[int, int]) -> None:
        """What is here of it is not right."""
        self.target.forget(piece[0])
        self._returned.append(piece)
        self.here -= piece[1]
        head, _ = self._heads.pop(piece[0], (0, None))
        self.kept -= head if piece[0] in self._fetched else piece[1]

    def came(self, size_bytes: int) -> None:
        """So much more is here."""
        with self._changed:
            self.received += size_bytes
            self.here += size_bytes
            self._progress(self.here, self.size)

    def done(self, offset: int) -> bool:
        """The piece at ``offset`` is here. Gives whether more is than ever: what servers agree on may be less."""
        with self._changed:
            self._taken -= 1
            self._fetched.add(offset)
            self._changed.notify_all()
            further = self.here > self._most_here
            self._most_here = max(self._most_here, self.here)
            return further

    def note(self, served: Served) -> None:
        """Somebody has sent something."""
        with self._changed:
            if served not in self.served:
                self.served.append(served)

    def end(self) -> None:
        """Everything is here: who waits for something to do need not."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        """No more is to be fetched."""
        with self._changed:
            self.stopped = self.stopped or error
            self._changed.notify_all()
