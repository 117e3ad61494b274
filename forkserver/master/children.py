"""Track the children: which are alive, which are idle, and which connection each one serves. Runs in the master.

Plain data structures, no system calls and no clock. Children and connections have numbers that are never reused.

``idle`` is the number of waiting children minus the connections already forwarded to them. ``idle`` may be too low for
up to a second; the cost is one needless fork. ``idle`` must never be too high: a forwarded connection would then wait
in the queue with no child to take it.

Trust: a child writes its own row of the shared table and its own announcements, so a compromised child can write
anything there. The master asks nothing of a child that was forked for a single connection. For the other children, no
announcement can release a connection twice, and ``write_off`` finds the connections that a child hides.
"""

from __future__ import annotations

from forkserver.ipc.slots import Slot, SlotTable


class Child:
    """A live child.

    ``first`` is the connection that it was forked for; 0 for a child that was forked to wait. ``finished`` is the last
    connection whose end it announced, ``last_peer`` the peer that it served last, for the log, and ``spawned_at`` the
    time of its fork by the loop's clock.
    """

    __slots__ = ("finished", "first", "last_peer", "number", "pid", "slot", "slot_index", "spawned_at")

    def __init__(self, number: int, slot_index: int, slot: Slot, first: int) -> None:
        self.number = number
        self.pid = 0
        self.slot_index = slot_index
        self.slot = slot
        self.finished = 0
        self.last_peer = "-"
        self.first = first
        self.spawned_at = 0.0

    @property
    def connection(self) -> int:
        """The connection that the child has, or had last; 0: none yet."""
        return self.slot.connection if self.finished or not self.first else self.first

    @property
    def waits(self) -> bool:
        """Whether the child has no connection, as far as it has noted and announced."""
        return self.connection == self.finished


class Connection:
    """An admitted connection, counted for ``peer``; ``name`` is the peer's address in the log, ``opened`` a time.

    ``client_left``: the client is gone. ``client_done``: the client has closed its sending side.
    """

    __slots__ = ("client_done", "client_left", "name", "opened", "peer")

    def __init__(self, peer: str, name: str, opened: float) -> None:
        self.peer = peer
        self.name = name
        self.opened = opened
        self.client_left = False
        self.client_done = False


class Children:
    """The books of at most ``capacity`` children, whose rows are in ``table``.

    ``alive`` has the live children by PID, ``connections`` the admitted connections by number.
    """

    def __init__(self, capacity: int, table: SlotTable) -> None:
        self._table = table
        self._free = list(range(capacity - 1, -1, -1))
        self.alive: dict[int, Child] = {}
        self._by_number: dict[int, Child] = {}
        self._by_slot: list[Child | None] = [None] * capacity
        self.connections: dict[int, Connection] = {}
        self._written_off: set[int] = set()
        self._last_number = 0
        self._last_connection = 0
        self._dismissed = 0
        self._lowest_idle = 0
        self.idle = 0

    def __len__(self) -> int:
        return len(self.alive)

    def ending(self) -> list[int]:
        """Return the PIDs of the children that have announced that they are about to end."""
        return [child.pid for index in self._table.announced_ends() if (child := self._by_slot[index])]

    def open_connection(self, peer: str, now: float, name: str = "-") -> int:
        """Note an admitted connection of ``peer``, whose address in the log is ``name``. Return its number."""
        self._last_connection += 1
        self.connections[self._last_connection] = Connection(peer, name, now)
        return self._last_connection

    def close_connection(self, number: int) -> str | None:
        """Note the end of a connection. Return its peer, None if the end was noted before."""
        connection = self.connections.pop(number, None)
        return connection.peer if connection else None

    def prepare(self, connection: int | None) -> Child:
        """Return the child that is about to be forked for ``connection``, or to wait (None).

        Call ``spawned`` or ``spawn_failed`` next.
        """
        self._last_number += 1
        index = self._free.pop()
        slot = self._table.slot(index)
        slot.clear()
        self._table.clear_end(index)
        slot.connection = connection or 0
        return Child(self._last_number, index, slot, connection or 0)

    def spawned(self, child: Child, pid: int) -> None:
        """Note that the fork succeeded."""
        child.pid = pid
        self.alive[pid] = child
        self._by_number[child.number] = child
        self._by_slot[child.slot_index] = child
        # Do not ask its row: the child may run by now, and may have taken a connection from the queue.
        if not child.first:
            self.idle += 1

    def spawn_failed(self, child: Child) -> None:
        """Note that the fork failed."""
        self._free.append(child.slot_index)

    def forwarded(self) -> None:
        """Note that a connection was put into the queue: one idle child will take it."""
        self._one_idle_less()

    def dismissed(self) -> None:
        """Note that an empty packet was put into the queue: the idle child that takes it ends."""
        self._one_idle_less()
        self._dismissed += 1

    def unneeded(self) -> int:
        """Return how many children were idle during the whole time since the last call."""
        lowest, self._lowest_idle = self._lowest_idle, self.idle
        return max(min(lowest, self.idle), 0)

    def available(self, number: int, connection: int) -> str | None:
        """Note that child ``number`` has finished ``connection`` and waits. Return the peer of the connection.

        None: the connection was finished before.
        """
        child = self._by_number.get(number)
        if connection not in self.connections and connection not in self._written_off:
            return None  # the child has announced the connection twice, or lies
        if child:  # otherwise the child announced itself, died, and was reaped before this announcement was read
            child.finished = connection
            self.idle += 1
            self._take_back(connection)
            if connection in self.connections:
                child.last_peer = self.connections[connection].name
        return self.close_connection(connection)

    def died(self, pid: int) -> tuple[Child, Connection | None] | None:
        """Note that a child was reaped. Return it and the connection that it had. None: it was no child of the pool."""
        child = self.alive.pop(pid, None)
        if child is None:
            return None
        del self._by_number[child.number]
        self._by_slot[child.slot_index] = None
        self._table.clear_end(child.slot_index)
        self._free.append(child.slot_index)
        number = child.connection
        if child.waits:
            # The child waited. Or it had just received a connection, and is subtracted twice: see `write_off`.
            if self._dismissed:
                # Already subtracted. If this child died for another reason, the dismissed one is subtracted instead.
                self._dismissed -= 1
            else:
                self._one_idle_less()
        else:
            self._take_back(number)
        connection = self.connections.pop(number, None)
        if connection:
            child.last_peer = connection.name
        return child, connection

    def write_off(self, before: float) -> list[str]:
        """Give up the connections opened before that time that no live child has. Return their peers.

        A child can be killed in the few instructions between receiving a connection and noting its number. Such a child
        looked idle, and was subtracted from ``idle`` twice.

        Call this only while the queue is empty, and while no child that seems to wait is stopped: such a child may have
        the connection.
        """
        claimed = {child.connection for child in self.alive.values()}
        lost = [number for number, each in self.connections.items() if number not in claimed and each.opened < before]
        self.idle += len(lost)
        self._written_off.update(lost)
        return [self.connections.pop(number).peer for number in lost]

    def _take_back(self, connection: int) -> None:
        """Undo a wrong ``write_off``: the child was not dead, but was stopped in those few instructions."""
        if connection in self._written_off:
            self._written_off.remove(connection)
            self._one_idle_less()

    def _one_idle_less(self) -> None:
        self.idle -= 1
        self._lowest_idle = min(self._lowest_idle, self.idle)
