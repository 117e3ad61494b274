"""The pieces of one file that are still to be fetched, shared by all its sessions. Runs in the client."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.events import Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from forkserver.client.content import Target, Version
    from forkserver.client.events import OnEvent
    from forkserver.client.outcome import Served


class Wishes(NamedTuple):
    """Wishes of the caller for one file.

    ``expected`` is the SHA-256 that the whole file must have, in hexadecimal digits. ``whole_digest``: compute the
    digest of the whole file in any case. ``by_content``: a local file is unchanged only if its content is that of the
    server's file; the etag that was noted with the local file does not count.
    """

    expected: str | None = None
    whole_digest: bool = False
    by_content: bool = False


NO_WISHES = Wishes()


class Job:
    """The state of the fetch of one file: which pieces are missing, taken and here. Any thread may call the methods."""

    def __init__(self, name: bytes, target: Target, on_event: OnEvent, wishes: Wishes) -> None:
        self.name = name
        self.target = target
        self.wishes = wishes
        self.unchanged = False
        self.digest: str | None = None
        """The digest of the whole, if a comparison has computed it."""
        self.size = self.received = self.here = 0
        self.kept = 0
        """Bytes that were here before this run, and are right."""
        self._found = 0
        """Bytes that were here before this run, right or not."""
        self.served: list[Served] = []
        self.stopped: BaseException | None = None
        self.over = False
        """The whole file is here."""
        self._on_event = on_event
        self._missing: Iterator[tuple[int, int]] = iter(())
        self._returned: deque[tuple[int, int]] = deque()
        self._taken = 0
        self._fetched: set[int] = set()
        """Offsets of the pieces that came in this run."""
        self._heads: dict[int, tuple[int, tuple[str, str]]] = {}
        """Beginnings of missing pieces that are here, by offset of the piece: length in bytes, and origin."""
        self._changed = threading.Condition()
        self._most_here = 0

    def begin(self, version: Version) -> None:
        """Begin to fetch ``version``: find out which of its pieces are missing. Raises Failure."""
        self._missing = iter(self.target.begin(version))
        self.here = self.kept = self._found = self.target.here
        if self.size:
            self._tell_progress()

    @property
    def began_anew(self) -> bool:
        """Whether a part was here before this run, and no byte of the part is right."""
        return self.target.discarded or self._found > self.kept == 0

    def take(self, *, wait: bool) -> tuple[int, int] | None:
        """Return offset and length of a piece that the caller must fetch, or None if no piece is waiting.

        ``wait``: wait while other sessions may still give pieces back, so that None means that no piece is left.
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

    def give_back(self, pieces: Collection[tuple[int, int]], came_bytes: int) -> None:
        """Let other sessions fetch ``pieces``. Of one of the pieces, ``came_bytes`` had come."""
        with self._changed:
            self._returned.extend(pieces)
            self._taken -= len(pieces)
            self.here -= came_bytes
            self._changed.notify_all()

    def keep_head(self, offset: int, length: int, version: Version) -> None:
        """Note that the first ``length`` bytes of the piece at ``offset`` are here, and are those of ``version``."""
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
            # Both parts of a piece must be of one version, because one digest verifies the piece.
            del self._heads[offset]
            self.here -= length
            self.kept -= length
            return 0

    def fetch_again(self, piece: tuple[int, int]) -> None:
        """Have ``piece`` fetched again: the bytes that are here are not right."""
        self.target.forget(piece[0])
        self._returned.append(piece)
        self.here -= piece[1]
        head, _ = self._heads.pop(piece[0], (0, None))
        self.kept -= head if piece[0] in self._fetched else piece[1]

    def came(self, size_bytes: int) -> None:
        """Count ``size_bytes`` that have come."""
        with self._changed:
            self.received += size_bytes
            self.here += size_bytes
            self._tell_progress()

    def done(self, offset: int) -> bool:
        """Note that the piece at ``offset`` is here. Return whether more bytes are here than ever before.

        Fewer bytes may be here than before, because pieces that the servers disagree on are fetched again.
        """
        with self._changed:
            self._taken -= 1
            self._fetched.add(offset)
            self._changed.notify_all()
            further = self.here > self._most_here
            self._most_here = max(self._most_here, self.here)
            return further

    def note(self, served: Served) -> None:
        """Note that the process ``served`` has sent a piece, or an answer about the file."""
        with self._changed:
            if served not in self.served:
                self.served.append(served)

    def end(self) -> None:
        """Note that the whole file is here, and wake all threads that wait for a piece."""
        with self._changed:
            self.over = True
            self._changed.notify_all()

    def stop(self, error: BaseException) -> None:
        """Have all threads end because of ``error``."""
        with self._changed:
            self.stopped = self.stopped or error
            self._changed.notify_all()

    def _tell_progress(self) -> None:
        self._on_event(Progress(self.name, self.here, self.size, self.kept))
