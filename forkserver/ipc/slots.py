"""The shared table: what each child is doing, written by the children without system calls. Runs in every process.

The master makes the table as a memfd (memfd_create(2)) and maps it (mmap(2), MAP_SHARED) before its first fork. The
supervisor gets a descriptor of it. The table consists of:

* a header: the format, and one word for all children, the phase that the master wants, or the supervisor after the
  master's death;
* a byte for each row, in which its child announces that it is about to end. The bytes lie beside the phase, on a page
  that every child reads anyway;
* a row for each child, written by that child alone: 64-bit words, then text.

An aligned word is written whole, and no reader needs two words to agree. Text is written before the word that has its
length, and that word is 0 while the text changes. So the row of a child that was killed at any point may lack
something, but says nothing wrong.

Trust: a compromised child can write anything anywhere in the table. The properties of ``Slot`` bound what they return,
and ``read_layout`` refuses a header that does not fit the size of the file.

Format 1 may grow at the end of a row, because readers take the length of a row from the header. Every other change
needs another format number.
"""

from __future__ import annotations

import fcntl
import mmap
import os

from forkserver.protocol.messages import VERBS
from forkserver.protocol.native import encode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC = int.from_bytes(b"FS table", "little")
_FORMAT = 1
HEADER_BYTES = 64
_HEAD_MAGIC, _HEAD_FORMAT, _HEAD_COUNT, _HEAD_ROW_BYTES, _HEAD_FIRST_ROW, _PHASE = range(6)
_CONNECTION, _SENT, _REQUESTS, _CONNECTIONS, _START, _BEGAN, _PID, _PEER_LENGTH, _REQUEST, _OVER = range(10)
_WORD_BYTES = 8
PHASE_OFFSET = _PHASE * _WORD_BYTES
_WORDS = 24
_PEER_BYTES = 64
_PATH_BYTES = 256
ROW_BYTES = _WORDS * _WORD_BYTES + _PEER_BYTES + _PATH_BYTES
"""512, which divides the size of a page, so that no row lies on two pages."""
_ROW_WORDS = ROW_BYTES // _WORD_BYTES
_TEXT_START = _WORDS * _WORD_BYTES
_MAX_ROW_BYTES = 4096
_CLEAR = memoryview(bytes(_WORDS * _WORD_BYTES)).cast("Q")
_VERB_BITS = 8
_VERB_MASK = (1 << _VERB_BITS) - 1
_VERB_NUMBERS = {verb: number for number, verb in enumerate(VERBS, 1)}
_MAX_PID = 1 << 22
"""PID_MAX_LIMIT of the kernel, proc_sys_kernel(5)."""

SERVING, DRAINING, STOPPING = range(3)
"""Phases, what the master wants of its children: serve; finish what was begun; break off."""


class SlotTable:
    """A table of ``count`` rows, and the phase. Raises OSError where no memory can be had."""

    def __init__(self, count: int) -> None:
        # Begin the rows at a multiple of their length, so that each lies on one page.
        first_row = -(-(HEADER_BYTES + count) // ROW_BYTES) * ROW_BYTES
        size_bytes = first_row + count * ROW_BYTES
        self._ends = HEADER_BYTES + count
        self._first_row_word = first_row // _WORD_BYTES
        self.fd = os.memfd_create("forkserver-table", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        """The table's file, until ``close_file``."""
        os.ftruncate(self.fd, size_bytes)
        # Seal the size: if the file shrank, every process that has it mapped would die of SIGBUS.
        fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        self._memory = mmap.mmap(self.fd, size_bytes)
        self._words = memoryview(self._memory).cast("Q")
        self._words[_HEAD_FORMAT] = _FORMAT
        self._words[_HEAD_COUNT] = count
        self._words[_HEAD_ROW_BYTES] = ROW_BYTES
        self._words[_HEAD_FIRST_ROW] = first_row
        self._words[_HEAD_MAGIC] = _MAGIC

    def close_file(self) -> None:
        """Close the table's file. The memory stays mapped."""
        os.close(self.fd)

    @property
    def phase(self) -> int:
        """SERVING, DRAINING or STOPPING."""
        return self._words[_PHASE]

    @phase.setter
    def phase(self, phase: int) -> None:
        self._words[_PHASE] = phase

    def slot(self, index: int) -> Slot:
        """Return row ``index``, from 0."""
        start = self._first_row_word + index * _ROW_WORDS
        return Slot(self._words[start : start + _WORDS], self._memory, start * _WORD_BYTES + _TEXT_START)

    def announce_end(self, index: int) -> None:
        """Note that the child of row ``index`` is about to end."""
        self._memory[HEADER_BYTES + index] = 1

    def clear_end(self, index: int) -> None:
        """Clear the announcement of row ``index``: its child was reaped, or another child has the row."""
        self._memory[HEADER_BYTES + index] = 0

    def announced_ends(self) -> Iterator[int]:
        """Yield the rows of children that are about to end. The cost grows with their number, not with all rows."""
        index = HEADER_BYTES - 1
        while (index := self._memory.find(b"\1", index + 1, self._ends)) >= 0:
            yield index - HEADER_BYTES


class Layout:
    """The place of the rows in a table: ``count`` rows of ``row_bytes`` each, from byte ``first_row`` on."""

    __slots__ = ("count", "first_row", "row_bytes")

    def __init__(self, count: int, first_row: int, row_bytes: int) -> None:
        self.count = count
        self.first_row = first_row
        self.row_bytes = row_bytes

    def taken(self, rows: bytearray) -> Iterator[tuple[int, Slot]]:
        """Yield position and row of each child in ``rows``, a copy of some of the table's rows."""
        words = memoryview(rows).cast("Q")
        row_words = self.row_bytes // _WORD_BYTES
        for position, pid in enumerate(words[_PID::row_words].tolist()):
            if 0 < pid <= _MAX_PID:
                start = position * row_words
                yield position, Slot(words[start : start + _WORDS], rows, start * _WORD_BYTES + _TEXT_START)

    def pid_offset(self, index: int) -> int:
        """Return the offset of row ``index``'s PID in the table. Zeros written there free the row."""
        return self.first_row + index * self.row_bytes + _PID * _WORD_BYTES


def read_layout(header: bytes, size_bytes: int, max_count: int) -> Layout:
    """Return the layout of a table of ``size_bytes`` that begins with ``header``.

    Raises ValueError where the table is of another format, or the header does not fit the size.
    """
    if len(header) != HEADER_BYTES:
        raise ValueError("the table is shorter than its header")
    words = memoryview(header).cast("Q")
    if words[_HEAD_MAGIC] != _MAGIC or words[_HEAD_FORMAT] != _FORMAT:
        raise ValueError("the table is of another format")
    count, row_bytes, first_row = words[_HEAD_COUNT], words[_HEAD_ROW_BYTES], words[_HEAD_FIRST_ROW]
    rows_fit = 0 < count <= max_count and ROW_BYTES <= row_bytes <= _MAX_ROW_BYTES and row_bytes % _WORD_BYTES == 0
    if not rows_fit or first_row < HEADER_BYTES + count or size_bytes != first_row + count * row_bytes:
        raise ValueError("the table's header does not fit its size")
    return Layout(count, first_row, row_bytes)


class Slot:
    """One child's row: its ``words``, and its text, which begins at byte ``text_start`` of ``memory``.

    ``memory`` is the table or a copy of a part. There is no view of the text: it would cost each child two page faults.
    """

    __slots__ = ("_memory", "_path_start", "_peer_start", "_words")

    def __init__(self, words: memoryview[int], memory: mmap.mmap | bytearray, text_start: int) -> None:
        self._words = words
        self._memory = memory
        self._peer_start = text_start
        self._path_start = text_start + _PEER_BYTES

    def clear(self) -> None:
        """Make the row ready for a new child. Called by the master, before the fork."""
        self._words[:] = _CLEAR

    def free(self) -> None:
        """Note that no child has the row. The process that reaped the child calls this after logging the end."""
        self._words[_PID] = 0

    @property
    def connection(self) -> int:
        """Number of the connection the child took last; 0: none yet."""
        return self._words[_CONNECTION]

    @connection.setter
    def connection(self, number: int) -> None:
        self._words[_CONNECTION] = number

    def take(self, number: int, peer: str) -> None:
        """Note that the child has connection ``number`` of ``peer`` now."""
        words = self._words
        words[_CONNECTION] = number
        text = peer.encode("ascii")[:_PEER_BYTES]
        words[_PEER_LENGTH] = 0
        self._memory[self._peer_start : self._peer_start + len(text)] = text
        words[_PEER_LENGTH] = len(text)
        words[_CONNECTIONS] += 1

    def leave(self) -> None:
        """Note that the connection is over and logged."""
        self._words[_OVER] = self._words[_CONNECTIONS]

    def begin(self, pid: int, start_us: int, now: float) -> None:
        """Note the child's PID and start, in microseconds since 1970 and in seconds of the monotonic clock."""
        words = self._words
        words[_BEGAN] = int(now * 1_000_000)
        words[_START] = start_us
        words[_PID] = pid

    def begin_request(self, verb: str, name: bytes) -> None:
        """Note the request under way. Call ``end_request`` before the next: a text that counts must not change."""
        text = name[:_PATH_BYTES]
        self._memory[self._path_start : self._path_start + len(text)] = text
        self._words[_REQUEST] = len(name) << _VERB_BITS | _VERB_NUMBERS[verb]

    def end_request(self) -> None:
        """Note that no request is under way."""
        self._words[_REQUEST] = 0

    @property
    def pid(self) -> int:
        """PID of the child; 0: no child has the row, or the child has not noted its PID yet."""
        return self._words[_PID]

    @property
    def start_us(self) -> int:
        """Start time of the child in microseconds since 1970, as in its replies; 0: not noted yet."""
        return self._words[_START]

    @property
    def began(self) -> float:
        """Start time of the child in seconds of the monotonic clock, which all processes share."""
        return self._words[_BEGAN] / 1_000_000

    @property
    def peer(self) -> str:
        """Address of the peer whose connection the child took last; a dash: none yet."""
        text = self._read(self._peer_start, min(self._words[_PEER_LENGTH], _PEER_BYTES))
        return text.decode("ascii", "backslashreplace") or "-"

    @property
    def request(self) -> str:
        """Verb of the request under way; a dash: none is."""
        number = self._words[_REQUEST] & _VERB_MASK
        return VERBS[number - 1] if 0 < number <= len(VERBS) else "-"

    @property
    def path(self) -> str:
        """Path of the request under way, percent-encoded, with three dots if it was cut; a dash: no path."""
        length = self._words[_REQUEST] >> _VERB_BITS
        name = self._read(self._path_start, min(length, _PATH_BYTES))
        return (encode_name(name) or "-") + ("..." if length > _PATH_BYTES else "")

    @property
    def connections(self) -> int:
        """Connections that the child has taken, the last included."""
        return self._words[_CONNECTIONS]

    @property
    def connections_over(self) -> int:
        """Connections of the child that have ended."""
        return self._words[_OVER]

    @property
    def connected(self) -> bool:
        """Whether the child has a connection whose end is not logged yet."""
        return self.connections > self.connections_over

    @property
    def sent_bytes(self) -> int:
        """Content bytes that the child has sent."""
        return self._words[_SENT]

    @property
    def requests(self) -> int:
        """Requests that the child has answered."""
        return self._words[_REQUESTS]

    def _read(self, start: int, length: int) -> bytes:
        return bytes(self._memory[start : start + length])

    def count_sent(self, size_bytes: int) -> None:
        """Add to ``sent_bytes``."""
        self._words[_SENT] += size_bytes

    def count_request(self) -> None:
        """Add one to ``requests``."""
        self._words[_REQUESTS] += 1
