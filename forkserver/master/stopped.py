"""Kill the stopped children whose clients have left, so that their places become free. Runs in the master.

A stopped child (SIGSTOP) notices neither its client's end nor a signal, and would keep its place for ever.
"""

from __future__ import annotations

import os
import signal

from forkserver.ipc.handover import Handover
from forkserver.kernel.hangup import Hangups
from forkserver.master.children import Child, Children, Connection


class StoppedChildren:
    """The stopped ones of ``children``; false if there are none.

    ``hangups`` watches the connections by their numbers. While there are stopped children, poll ``fileno``, and call
    ``kill`` when ``fileno`` is readable. At other times the end of any connection would wake the caller.
    """

    def __init__(self, children: Children, handover: Handover, hangups: Hangups) -> None:
        self._children = children
        self._handover = handover
        self._hangups = hangups
        self._stopped: dict[int, Child] = {}

    def __bool__(self) -> bool:
        return bool(self._stopped)

    def fileno(self) -> int:
        """Return the descriptor for a poll set."""
        return self._hangups.fileno()

    def add(self, pid: int) -> None:
        """Note that a child was stopped. A process that is no child of the pool is ignored."""
        if child := self._children.alive.get(pid):
            self._stopped[pid] = child

    def discard(self, pid: int) -> None:
        """Note that a child was continued or reaped."""
        self._stopped.pop(pid, None)

    @property
    def any_waits(self) -> bool:
        """Whether any of them seems to wait. Such a child may have a connection whose number it has not noted."""
        return any(child.waits for child in self._stopped.values())

    def kill(self) -> None:
        """Kill the stopped children that have no client any more. Only SIGKILL reaches a stopped process."""
        for number, gone in self._hangups.read():
            self.note_hangup(number, gone=gone)
        # Required order: first what children have noted, then what is queued. A child that takes a connection in
        # between is then suspected of hiding it until the next call. In the other order, a child that does hide a
        # connection would not be suspected.
        unclaimed = self._children.unclaimed()
        for child in self.without_client(self._handover.taken(unclaimed)):
            os.kill(child.pid, signal.SIGKILL)

    def note_hangup(self, number: int, *, gone: bool) -> None:
        """Note that the client of a connection is ``gone`` or, if not ``gone``, has closed its sending side."""
        if connection := self._children.connections.get(number):
            connection.client_left |= gone
            connection.client_done = True

    def without_client(self, taken: list[int]) -> list[Child]:
        """Return the stopped children that have no client, each once, with ``kill_reason`` set.

        ``taken`` are the ``unclaimed`` connections that are no longer in the queue. SIGSTOP itself wakes a waiting
        child, so a child that seems to wait may have received one of these connections and been stopped before it noted
        the number. As long as the client of such a connection is there, no child that seems to wait is returned.

        A stopped child that waits still counts in ``idle``. ``Children.died`` corrects the count; then another child is
        forked for what was forwarded meanwhile.
        """
        connections = self._children.connections
        unseen = any(number in connections and not connections[number].client_left for number in taken)
        ending = set(self._children.ending())
        found = []
        for pid, child in self._stopped.items():
            if child.kill_reason:
                continue
            connection = connections.get(child.connection)
            if connection and _has_left(connection, child):
                child.kill_reason = "it was stopped, and its client has left"
            elif pid in ending or (child.waits and not unseen):
                child.kill_reason = "it was stopped while it had no client"
            if child.kill_reason:
                found.append(child)
        return found


def _has_left(connection: Connection, child: Child) -> bool:
    """Whether the client of a stopped child has left.

    A client that has closed its sending side may wait for an answer. It waits for none if the child has answered
    requests and has none under way. If the child has answered none, the client's first request may lie unread in the
    socket.
    """
    if connection.client_left:
        return True
    return connection.client_done and child.slot.requests > 0 and child.slot.request == "-"
