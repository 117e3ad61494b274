"""Continue the stopped children whose clients have left, so that their places become free. Runs in the master.

A stopped child (SIGSTOP) does not notice the end of its client, and would keep its place for ever.
"""

from __future__ import annotations

import os
import signal

from forkserver.kernel.hangup import Hangups
from forkserver.master.children import Child, Children, Connection


class StoppedChildren:
    """The stopped ones of ``children``; false if there are none.

    ``hangups`` watches the connections by their numbers. While there are stopped children, poll ``fileno``, and call
    ``continue_without_client`` after every poll, whatever woke the caller: a client may have left before its child was
    stopped. At other times do not poll ``fileno``: the end of any connection would wake the caller.
    """

    def __init__(self, children: Children, hangups: Hangups) -> None:
        self._children = children
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

    def continue_without_client(self) -> None:
        """Continue the stopped children that have no client any more: each ends, or waits for its next client."""
        for number, gone in self._hangups.read():
            self.note_hangup(number, gone=gone)
        for pid in self.without_client():
            os.kill(pid, signal.SIGCONT)

    def note_hangup(self, number: int, *, gone: bool) -> None:
        """Note that the client of a connection is ``gone`` or, if not ``gone``, has closed its sending side."""
        if connection := self._children.connections.get(number):
            connection.client_left |= gone
            connection.client_done = True

    def without_client(self) -> list[int]:
        """Return the PIDs of the stopped children that seem to have no client.

        Appearances may deceive: a request may lie unread in the socket, or SIGSTOP, which wakes a waiting child, may
        have let it take a connection that it has not noted yet. A child that is continued serves what there is.
        """
        ending = set(self._children.ending())
        found = []
        for pid, child in self._stopped.items():
            connection = self._children.connections.get(child.connection)
            if child.waits or pid in ending or (connection and _has_left(connection, child)):
                found.append(pid)
        return found


def _has_left(connection: Connection, child: Child) -> bool:
    """Whether the client of a stopped child seems to have left.

    A client that has closed its sending side may wait for an answer. The client seems to wait for none if the child has
    answered requests and has none under way. If the child has answered none, the client's first request may lie unread
    in the socket. The count of requests includes earlier connections of the child, and a request is under way until its
    end line is written.
    """
    if connection.client_left:
        return True
    return connection.client_done and child.slot.requests > 0 and child.slot.request == "-"
