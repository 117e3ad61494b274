"""The shared table: what each child is doing, readable by the master at no system call. Runs in master and child.

An anonymous shared mapping (mmap(2), MAP_SHARED) made before the first fork: a row of eight 64-bit words a child,
written by that child alone, and one word for all of them, written by the master alone. Aligned words are written whole,
and each is a fact of its own: no reader needs two of them to agree. Before the rows stands a byte for each, which says
that its child is about to end: beside the master's word, on a page that every child reads anyhow.
"""

from __future__ import annotations

import mmap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_WORDS = 8
_WISH_BYTES = 8
_CONNECTION, _SENT, _REQUESTS, _CONNECTIONS, _START, _BEGAN = range(6)

SERVING, DRAINING, STOPPING = range(3)
"""What the master wants of its children: go on; finish what was begun; break off."""


class SlotTable:
    """``count`` rows, and the master's wish."""

    def __init__(self, count: int) -> None:
        # Rows begin where a row's length divides: each lies in one line of the processor's cache.
        self._first_row = -(-(_WISH_BYTES + count) // (_WORDS * 8))
        self._ends = _WISH_BYTES + count
        self._memory = mmap.mmap(-1, (self._first_row + count) * _WORDS * 8)
        self._words = memoryview(self._memory).cast("Q")

    @property
    def wish(self) -> int:
        """SERVING, DRAINING or STOPPING."""
        return self._words[0]

    @wish.setter
    def wish(self, wish: int) -> None:
        self._words[0] = wish

    def slot(self, index: int) -> Slot:
        """Row ``index``, from 0."""
        start = (self._first_row + index) * _WORDS
        return Slot(self._words[start : start + _WORDS])

    def announce_end(self, index: int) -> None:
        """The child of row ``index`` is about to end."""
        self._memory[_WISH_BYTES + index] = 1

    def forget_end(self, index: int) -> None:
        """Its end was seen, or another child gets the row."""
        self._memory[_WISH_BYTES + index] = 0

    def ends(self) -> Iterator[int]:
        """The rows of children that are about to end. Costs by their number, hardly by that of all."""
        index = _WISH_BYTES - 1
        while (index := self._memory.find(b"\1", index + 1, self._ends)) >= 0:
            yield index - _WISH_BYTES


class Slot:
    """One child's row."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def clear(self) -> None:
        """Make the row ready for a new child. Called by the master, before the fork."""
        for word in range(_WORDS):
            self._words[word] = 0

    @property
    def connection(self) -> int:
        """Number of the connection the child took last; 0: none yet."""
        return self._words[_CONNECTION]

    @connection.setter
    def connection(self, number: int) -> None:
        self._words[_CONNECTION] = number

    def take(self, number: int) -> None:
        """Note that the child has connection ``number`` now."""
        self._words[_CONNECTION] = number
        self._words[_CONNECTIONS] += 1

    def begin(self, start_us: int, now: float) -> None:
        """Note the start of the child's life: microseconds since 1970, and the moment of the monotonic clock."""
        self._words[_BEGAN] = int(now * 1_000_000)
        self._words[_START] = start_us

    @property
    def start_us(self) -> int:
        """Start time of the child, as in its replies; 0: it has not come so far as to note it."""
        return self._words[_START]

    @property
    def began(self) -> float:
        """The same moment by the monotonic clock, which master and child share; in seconds."""
        return self._words[_BEGAN] / 1_000_000

    @property
    def connections(self) -> int:
        """Connections taken in the child's life, the last included."""
        return self._words[_CONNECTIONS]

    @property
    def sent_bytes(self) -> int:
        """Content bytes sent in the child's life."""
        return self._words[_SENT]

    @property
    def requests(self) -> int:
        """Requests answered in the child's life."""
        return self._words[_REQUESTS]

    def count_sent(self, size_bytes: int) -> None:
        """Add to ``sent_bytes``."""
        self._words[_SENT] += size_bytes

    def count_request(self) -> None:
        """Add one to ``requests``."""
        self._words[_REQUESTS] += 1
