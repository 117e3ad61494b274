"""Keep the masters' shared tables; after a master's death read and free rows, and set the phase.

Runs in the supervisor.

A living master logs the ends of its children itself. The supervisor reads the table of a dead master, for the children
that the master left, and the tables that a dead supervisor left (``log_cut_connections``).

Tables are read with pread(2), not mapped: a hole costs no memory. The contents are not trusted, see
``forkserver.ipc.slots``.
"""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable, Iterator

from forkserver.ipc import slots
from forkserver.ipc.account import account, request_under_way
from forkserver.ipc.slots import Slot
from forkserver.logline import Log
from forkserver.settings import MAX_CHILDREN

_BLOCK_BYTES = 65536
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class SharedTable:
    """A master's table in the file ``fd``, which the object owns. systemd stores the descriptor as ``name``.

    Raises ValueError for a file that is no table; then ``fd`` stays the caller's.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        try:
            # Check for seals before reading: only a memfd has them, and reading another file could block.
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            header = os.pread(fd, slots.HEADER_BYTES, 0)
            size_bytes = os.fstat(fd).st_size
        except OSError as error:
            raise ValueError(f"the file is no table: {error.strerror}") from error
        if not sealed:
            raise ValueError("the table's size is not sealed")
        self._layout = slots.read_layout(header, size_bytes, MAX_CHILDREN)

    def rows(self) -> Iterator[tuple[int, Slot]]:
        """Yield index and copy of each row that belongs to a child."""
        layout = self._layout
        at_once = _BLOCK_BYTES // layout.row_bytes
        for first in range(0, layout.count, at_once):
            block = bytearray(min(at_once, layout.count - first) * layout.row_bytes)
            os.preadv(self.fd, [block], layout.first_row + first * layout.row_bytes)
            for position, slot in layout.taken(block):
                yield first + position, slot

    def pids(self) -> set[int]:
        """Return the PIDs in the rows."""
        return {slot.pid for _, slot in self.rows()}

    def find(self, pids: set[int]) -> dict[int, tuple[int, Slot]]:
        """Return index and copy of each child's row, by PID; of two rows with the same PID the first."""
        found: dict[int, tuple[int, Slot]] = {}
        for index, slot in self.rows():
            if slot.pid in pids and slot.pid not in found:
                found[slot.pid] = index, slot
                if len(found) == len(pids):
                    break
        return found

    def set_phase(self, phase: int) -> None:
        """Set what is wanted of the children of a dead master: DRAINING or STOPPING. The caller sends them SIGUSR1."""
        os.pwrite(self.fd, phase.to_bytes(8, sys.byteorder), slots.PHASE_OFFSET)

    def free(self, index: int) -> None:
        """Free row ``index``, so that no later supervisor logs the row. The caller of ``remove`` logs the end."""
        os.pwrite(self.fd, bytes(8), self._layout.pid_offset(index))

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class OrphanTables:
    """The tables of dead masters, each kept until the last orphan of its master is reaped."""

    def __init__(self) -> None:
        self._orphans: dict[int, tuple[SharedTable, int]] = {}
        """By PID: the table of the orphan's master, and how many connections the master has counted.

        Those that were over when its death was noticed count as counted.
        """

    @property
    def tables(self) -> list[SharedTable]:
        """The tables that are kept."""
        return list({table for table, _ in self._orphans.values()})

    @property
    def pids(self) -> set[int]:
        """The orphans that are not yet reaped."""
        return set(self._orphans)

    def add(self, table: SharedTable, pids: set[int]) -> None:
        """Keep the table of a dead master that left the orphans ``pids``; close the table if there are none."""
        if not pids:
            table.close()
            return
        self._orphans.update(dict.fromkeys(pids, (table, 0)))
        # The master counted the connections that its children finished before it died.
        for pid, (_, slot) in table.find(pids).items():
            self._orphans[pid] = table, slot.connections_over

    def remove(self, pid: int) -> tuple[Slot | None, int]:
        """Forget an orphan that was reaped; return its row, and how many connections its master did not count.

        The row is None if nothing is known of the orphan.
        """
        if pid not in self._orphans:
            return None, 0
        table, counted = self._orphans.pop(pid)
        index, slot = table.find({pid}).get(pid, (0, None))
        if slot:
            table.free(index)
        if all(kept is not table for kept, _ in self._orphans.values()):
            table.close()
        return slot, max(0, slot.connections - counted) if slot else 0


def log_cut_connections(tables: Iterable[tuple[str, int]], log: Log) -> None:
    """Log a line for every connection that was cut when an earlier supervisor died, and close the tables.

    ``tables`` are names and descriptors. systemd has ended all processes of that supervisor.
    """
    for name, fd in tables:
        try:
            for _, slot in SharedTable(fd, name).rows():
                if slot.connected:
                    log.event("died", **account(slot.pid, "server-died", slot), **request_under_way(slot))
        except ValueError as error:
            log.event("warning", reason=f"what the server did before it died is not known: {error}")
        os.close(fd)
