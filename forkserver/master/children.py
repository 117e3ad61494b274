"""Who is alive, who is idle, whose connection is whose: pure bookkeeping. Runs in the master.

A child is known by a number that is never used again, a connection too. ``idle`` counts children that wait minus
connections forwarded to them. It may err downwards for a second, which costs one child too many; it must never err
upwards, which would leave a connection in the queue with nobody to take it.

What children say, in their rows and their announcements, is theirs to say: of one that was taken over, anything. A
child forked for its one connection is asked nothing. Of the others no word frees a connection twice, and what they
hide is found again by ``write_off``.
"""

from __future__ import annotations

from forkserver.ipc.slots import Slot, SlotTable


class Child:
    """One live child. ``first`` is the connection it was forked for; 0, and it was made to wait.

    ``finished`` is the last connection it announced the end of, ``last_peer``, for the log, whom it served last,
    ``born_at`` the moment of its birth by the loop's clock. ``doom`` is the reason for which the master kills this
    child, empty as long as there is none.
    """

    __slots__ = ("born_at", "doom", "finished", "first", "last_peer", "number", "pid", "slot", "slot_index")

    def __init__(self, number: int, slot_index: int, slot: Slot, first: int) -> None:
        self.number = number
        self.pid = 0
        self.slot_index = slot_index
        self.slot = slot
        self.finished = 0
        self.last_peer = "-"
        self.first = first
        self.born_at = 0.0
        self.doom = ""

    @property
    def connection(self) -> int:
        """The connection it has, or had last; 0: none yet."""
        return self.slot.connection if self.finished or not self.first else self.first

    @property
    def waits(self) -> bool:
        """Whether the child has no connection, as far as it has noted and announced."""
        return self.connection == self.finished


class Connection:
    """One admitted connection: whose it counts as, its address for the log, and when it was opened.

    ``client_left``: its client is gone. ``client_done``: its client has closed its sending side.
    """

    __slots__ = ("client_done", "client_left", "name", "opened", "peer")

    def __init__(self, peer: str, name: str, opened: float) -> None:
        self.peer = peer
        self.name = name
        self.opened = opened
        self.client_left = False
        self.client_done = False


def _has_left(connection: Connection, child: Child) -> bool:
    """Whether the client of a stopped child has left.

    A client that sends no more may wait for an answer. It does not where the child has answered requests and has none
    under way. Where the child has not answered any, the client's first request may lie unread in the socket.
    """
    if connection.client_left:
        return True
    return connection.client_done and child.slot.requests > 0 and child.slot.request == "-"


class Children:
    """At most ``capacity`` children."""

    def __init__(self, capacity: int, table: SlotTable) -> None:
        self._table = table
        self._free = list(range(capacity - 1, -1, -1))
        self._by_pid: dict[int, Child] = {}
        self._by_number: dict[int, Child] = {}
        self._by_slot: list[Child | None] = [None] * capacity
        self._connections: dict[int, Connection] = {}
        self._stopped: dict[int, Child] = {}
        self._written_off: set[int] = set()
        self._last_number = 0
        self._last_connection = 0
        self._dismissed = 0
        self._lowest_idle = 0
        self.idle = 0

    def __len__(self) -> int:
        return len(self._by_pid)

    @property
    def pids(self) -> list[int]:
        """Of all live children."""
        return list(self._by_pid)

    @property
    def any_stopped(self) -> bool:
        """Whether any child is stopped (SIGSTOP)."""
        return bool(self._stopped)

    def ending(self) -> list[int]:
        """PIDs of the children that say they are about to end."""
        return [child.pid for index in self._table.ends() if (child := self._by_slot[index])]

    @property
    def full(self) -> bool:
        """Whether no child may be added."""
        return not self._free

    def open_connection(self, peer: str, now: float, name: str = "-") -> int:
        """A connection was admitted, of ``peer``, whose address in the log is ``name``; returns its number."""
        self._last_connection += 1
        self._connections[self._last_connection] = Connection(peer, name, now)
        return self._last_connection

    def close_connection(self, number: int) -> str | None:
        """A connection has ended; returns whose it was, None if that is known already."""
        connection = self._connections.pop(number, None)
        return connection.peer if connection else None

    def prepare(self, connection: int | None) -> Child:
        """A child is about to be forked, for ``connection`` or, None, to wait. Follow with ``born`` or ``unborn``."""
        self._last_number += 1
        index = self._free.pop()
        slot = self._table.slot(index)
        slot.clear()
        self._table.forget_end(index)
        slot.connection = connection or 0
        return Child(self._last_number, index, slot, connection or 0)

    def born(self, child: Child, pid: int) -> None:
        """The fork succeeded."""
        child.pid = pid
        self._by_pid[pid] = child
        self._by_number[child.number] = child
        self._by_slot[child.slot_index] = child
        # Not by its slot: by now the child may run, and have taken a connection from the queue.
        if not child.first:
            self.idle += 1

    def unborn(self, child: Child) -> None:
        """The fork failed."""
        self._free.append(child.slot_index)

    def forwarded(self) -> None:
        """A connection was put in the queue: one idle child will take it."""
        self._one_idle_less()

    def dismissed(self) -> None:
        """Its end was put in the queue: the idle child that takes it is idle no longer, and dies."""
        self._one_idle_less()
        self._dismissed += 1

    def unneeded(self) -> int:
        """How many were idle the whole time since the last call."""
        lowest, self._lowest_idle = self._lowest_idle, self.idle
        return max(min(lowest, self.idle), 0)

    def available(self, number: int, connection: int) -> str | None:
        """Child ``number`` announced itself; returns whose connection it finished."""
        child = self._by_number.get(number)
        if connection not in self._connections and connection not in self._written_off:
            return None  # nobody has it: said twice, or a lie
        if child:  # else it died after it announced itself, and its death was seen first
            child.finished = connection
            self.idle += 1
            self._take_back(connection)
            if connection in self._connections:
                child.last_peer = self._connections[connection].name
        return self.close_connection(connection)

    def died(self, pid: int) -> tuple[Child, Connection | None] | None:
        """A child was reaped: which, and the connection it had. None: it was not ours."""
        child = self._by_pid.pop(pid, None)
        if child is None:
            return None
        self._stopped.pop(pid, None)
        del self._by_number[child.number]
        self._by_slot[child.slot_index] = None
        self._table.forget_end(child.slot_index)
        self._free.append(child.slot_index)
        number = child.connection
        if child.waits:
            # It was waiting; or had only just received, and then it is counted out once too often: see `write_off`.
            if self._dismissed:
                self._dismissed -= 1  # already counted out; if it died of something else, the next to die will be this
            else:
                self._one_idle_less()
        else:
            self._take_back(number)
        connection = self._connections.pop(number, None)
        if connection:
            child.last_peer = connection.name
        return child, connection

    def note_pause(self, pid: int, *, stopped: bool) -> None:
        """Note that a child was stopped, or continued."""
        child = self._by_pid.get(pid)
        if child and stopped:
            self._stopped[pid] = child
        else:
            self._stopped.pop(pid, None)

    def note_hangup(self, connection: int, *, gone: bool) -> None:
        """Note that the client of a connection is ``gone``, or, if not ``gone``, sends no more."""
        if connection in self._connections:
            self._connections[connection].client_left |= gone
            self._connections[connection].client_done = True

    def unclaimed(self) -> list[tuple[int, str]]:
        """Return number and name of the connections that no child has noted as taken, oldest first."""
        claimed = {child.connection for child in self._by_pid.values()}
        return [(number, each.name) for number, each in self._connections.items() if number not in claimed]

    def stopped_without_client(self, taken: list[int]) -> list[Child]:
        """Return the stopped children that serve nobody, each once, with ``doom`` set. The caller kills them.

        ``taken`` are those of the ``unclaimed`` connections that are no longer in the queue. A child that seems to wait
        may have been stopped after it received one of them and before it noted its number: SIGSTOP itself wakes a child
        that waits. As long as the client of such a connection is there, no child that seems to wait is among the
        returned.

        A stopped child that waits is counted in ``idle`` until ``died`` corrects that: then another child is forked for
        what was forwarded meanwhile.
        """
        unseen = any(number in self._connections and not self._connections[number].client_left for number in taken)
        ending = set(self.ending())
        found = []
        for pid, child in self._stopped.items():
            if child.doom:
                continue
            connection = self._connections.get(child.connection)
            if connection and _has_left(connection, child):
                child.doom = "it was stopped, and its client has left"
            elif pid in ending or (child.waits and not unseen):
                child.doom = "it was stopped while it had no client"
            if child.doom:
                found.append(child)
        return found

    def write_off(self, before: float) -> list[str]:
        """Give up connections opened before that moment which no live child has; returns whose they were.

        A child killed in the few instructions between receiving a connection and noting its number takes it along
        unseen; it looked idle, and was counted out twice. To be asked only while the queue is empty.

        As long as a child is stopped that seems to wait, nothing is given up: that child may have the connection.
        """
        if any(child.waits for child in self._stopped.values()):
            return []
        lost = [number for number, _ in self.unclaimed() if self._connections[number].opened < before]
        self.idle += len(lost)
        self._written_off.update(lost)
        return [self._connections.pop(number).peer for number in lost]

    def _take_back(self, connection: int) -> None:
        """Undo a wrong ``write_off``: the child was not dead, but stopped in those few instructions."""
        if connection in self._written_off:
            self._written_off.remove(connection)
            self._one_idle_less()

    def _one_idle_less(self) -> None:
        self.idle -= 1
        self._lowest_idle = min(self._lowest_idle, self.idle)
