"""The shared tables of the masters, read for those who cannot tell of their children any more. Runs in the supervisor.

A master tells what became of its children itself. The supervisor looks into the table of a master that died, for the
children that the master left, and into the tables of a supervisor that died before it (``log_cut``).

Tables are read with pread(2): a hole costs no memory, and a file that is not as it should be is a short read, not a
SIGBUS. What a table says is not trusted, see ``forkserver.ipc.slots``.
"""

from __future__ import annotations

import fcntl
import os

from forkserver.ipc import slots
from forkserver.ipc.account import Life, account_of_cut
from forkserver.settings import MAX_CHILDREN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.ipc.slots import Slot
    from forkserver.logline import Log

_BLOCK_BYTES = 65536
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class Table:
    """A master's table, in the file ``fd``, which the object owns. ``name`` is the table's at the service manager.

    Raises ValueError for a file that is no table; then ``fd`` stays the caller's.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.fd = fd
        self.name = name
        try:
            # Only memory has seals: reading another file could block.
            sealed = fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS == _SEALS
            header = os.pread(fd, slots.HEADER_BYTES, 0)
            size_bytes = os.fstat(fd).st_size
        except OSError as error:
            raise ValueError(f"the file is no table: {error.strerror}") from error
        if not sealed:
            raise ValueError("the table's size is not sealed")
        self._layout = slots.read_layout(header, size_bytes, MAX_CHILDREN)

    def rows(self) -> Iterator[tuple[int, Slot]]:
        """Yield a copy of each row that a child has, with its index."""
        layout = self._layout
        at_once = _BLOCK_BYTES // layout.row_bytes
        for first in range(0, layout.count, at_once):
            block = bytearray(min(at_once, layout.count - first) * layout.row_bytes)
            os.preadv(self.fd, [block], layout.first_row + first * layout.row_bytes)
            for position, slot in layout.taken(block):
                yield first + position, slot

    def pids(self) -> set[int]:
        """Return what the rows say are their children."""
        return {slot.pid for _, slot in self.rows()}

    def find(self, pids: set[int]) -> dict[int, tuple[int, Slot]]:
        """Return index and copy of the rows of these children; of two rows with one PID the first."""
        found: dict[int, tuple[int, Slot]] = {}
        for index, slot in self.rows():
            if slot.pid in pids and slot.pid not in found:
                found[slot.pid] = index, slot
                if len(found) == len(pids):
                    break
        return found

    def free(self, index: int) -> None:
        """Note that nothing is left to be told of row ``index``: another supervisor may read the table."""
        os.pwrite(self.fd, bytes(8), self._layout.pid_offset(index))

    def close(self) -> None:
        """Close the file."""
        os.close(self.fd)


class OrphanTables:
    """The tables of masters that died, each until the last of the children that the master left is reaped."""

    def __init__(self) -> None:
        self._table_of: dict[int, Table] = {}
        self._served_of: dict[int, int] = {}
        self._waiting: dict[Table, set[int]] = {}

    @property
    def tables(self) -> list[Table]:
        """All of them."""
        return list(self._waiting)

    @property
    def pids(self) -> set[int]:
        """The children that are not yet reaped."""
        return set(self._table_of)

    def add(self, table: Table, pids: set[int]) -> None:
        """Keep the table of a dead master, which left the children ``pids``."""
        if not pids:
            table.close()
            return
        self._waiting[table] = set(pids)
        self._table_of.update(dict.fromkeys(pids, table))
        # What its children had finished before, the master had counted.
        self._served_of.update({pid: slot.connections_over for pid, (_, slot) in table.find(pids).items()})

    def remove(self, pid: int) -> tuple[Slot | None, int]:
        """Return the row of an orphan that was reaped, and how many connections it had that its master did not count.

        None: nothing is known of it.
        """
        table = self._table_of.pop(pid, None)
        if table is None:
            return None, 0
        found = table.find({pid}).get(pid)
        counted = self._served_of.pop(pid, 0)
        if found:
            table.free(found[0])
        self._waiting[table].discard(pid)
        if not self._waiting[table]:
            del self._waiting[table]
            table.close()
        return (found[1], max(0, found[1].connections - counted)) if found else (None, 0)


def log_cut(tables: Iterable[tuple[str, int]], log: Log) -> None:
    """Write a line for every connection that was cut when an earlier supervisor died, and close the tables.

    ``tables`` are names and descriptors. All processes of that supervisor are dead: the service manager has seen to it.
    """
    for name, fd in tables:
        try:
            for _, slot in Table(fd, name).rows():
                if slot.connected:
                    life = Life(slot.pid, "server-died", slot, peer=slot.peer)
                    log.event("died", **account_of_cut(life), reason="-")
        except ValueError as error:
            log.event("warning", reason=f"what the server did before it died is not known: {error}")
        os.close(fd)
