"""Map hashes to numbers in bounded memory: a large map continues in a temporary file. Runs in the client.

A server chooses how many names its listing has, so memory must not grow with the names. The first keys are in a
dictionary. All further keys are in an open-addressing hash table in a file without a name, in the directory for
temporary files. A look-up there reads one window of the file, and an insertion writes one slot.
"""

from __future__ import annotations

import os
import struct
from typing import IO

from forkserver.client.local.spool import no_place

_MOST_IN_MEMORY = 100_000
_SLOT = struct.Struct("=qq")
"""A key and a value. The key 0 marks a free slot, so the holes of a new file are free slots."""
_WINDOW_SLOTS = 8
_BLOCK_BYTES = 1 << 16
_SPARSE = 4
"""How many slots a new table has for each key. A table that is half full is replaced by a larger one."""


class HashTable:
    """A map that only grows, of hashes to numbers, both signed with 64 bits. The keys 0 and 1 are one key.

    The first ``most_in_memory`` keys are kept in memory. Methods raise Failure if the temporary file cannot be written
    or read.
    """

    def __init__(self, most_in_memory: int = _MOST_IN_MEMORY) -> None:
        self._most_in_memory = most_in_memory
        self._first: dict[int, int] = {}
        self._table: _Table | None = None

    def __len__(self) -> int:
        return len(self._first) + (self._table.count if self._table else 0)

    def setdefault(self, key: int, value: int) -> int:
        """Return the value of ``key``, which becomes ``value`` if the key is new."""
        key = key or 1
        if key in self._first or len(self._first) < self._most_in_memory:
            return self._first.setdefault(key, value)
        try:
            if self._table is None:
                self._table = _Table(self._most_in_memory)
            elif self._table.is_half_full:
                self._table = self._table.enlarged()
            return self._table.setdefault(key, value)
        except OSError as error:
            raise no_place(len(self), error) from error

    def get(self, key: int) -> int | None:
        """Return the value of ``key``, or None if the key is not there."""
        key = key or 1
        if key in self._first or self._table is None:
            return self._first.get(key)
        try:
            return self._table.find(key)[1]
        except OSError as error:
            raise no_place(len(self), error) from error


class _Table:
    """The table in a file, large enough for ``keys`` keys and more. Methods raise OSError."""

    def __init__(self, keys: int) -> None:
        import tempfile  # noqa: PLC0415 - most maps are small, and tempfile takes long to import

        self._file: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the table keeps the file open
        self._slots = 1 << (max(keys, _WINDOW_SLOTS) * _SPARSE - 1).bit_length()
        self.count = 0
        os.ftruncate(self._file.fileno(), self._slots * _SLOT.size)

    def __del__(self) -> None:
        # No owner closes a table. Without this, the interpreter would warn of a file that was left open.
        self._file.close()

    @property
    def is_half_full(self) -> bool:
        """Whether the table must be replaced by a larger one."""
        return self.count * 2 >= self._slots

    def enlarged(self) -> _Table:
        """Return a larger table with the same content. This table is closed."""
        larger = _Table(self.count)
        with self._file as file:
            file.seek(0)
            while block := file.read(_BLOCK_BYTES):
                for key, value in _SLOT.iter_unpack(block):
                    if key:
                        larger.setdefault(key, value)
        return larger

    def setdefault(self, key: int, value: int) -> int:
        """Return the value of ``key``, which becomes ``value`` if the key is new."""
        slot, found = self.find(key)
        if found is not None:
            return found
        os.pwrite(self._file.fileno(), _SLOT.pack(key, value), slot * _SLOT.size)
        self.count += 1
        return value

    def find(self, key: int) -> tuple[int, int | None]:
        """Return the slot of ``key`` and its value, or the free slot for the key and None."""
        slot = key & (self._slots - 1)
        while True:
            window = os.pread(self._file.fileno(), _WINDOW_SLOTS * _SLOT.size, slot * _SLOT.size)
            for there, value in _SLOT.iter_unpack(window):
                if there == key:
                    return slot, value
                if not there:
                    return slot, None
                slot += 1
            slot &= self._slots - 1  # the slot behind the last is the first
