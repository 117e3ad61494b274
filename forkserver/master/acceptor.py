"""Accept connections from the listening sockets, one at a time. Runs in the master."""

from __future__ import annotations

import errno
import os
import select

from forkserver.kernel import backlog, linger
from forkserver.logline import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import TypeAlias

    Accepted: TypeAlias = tuple[socket.socket, str, int]

_PAUSE_S = 0.1
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accept from non-blocking ``listeners``, which are in ``poll`` while connections are wanted.

    The caller must not call ``accept`` before ``paused_until``, a moment of the loop's clock: descriptors ran out.
    """

    def __init__(self, listeners: list[socket.socket], poll: select.poll, log: Log) -> None:
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._poll = poll
        self._log = log
        self._polled = False
        self._waiting: dict[socket.socket, int] | None = None  # by listener; None: accept whatever comes
        self._reserve_fd = self._take_reserve()
        self.paused_until = 0.0
        self.closed = False

    @property
    def polled(self) -> bool:
        """Whether the listeners are in the poll set."""
        return self._polled

    def poll_listeners(self, *, wanted: bool) -> None:
        """Put the listeners into the poll set, or take them out: new connections then wait in the backlog."""
        if wanted is self._polled or self.closed:
            return
        for fd in self._listeners:
            if wanted:
                self._poll.register(fd, select.POLLIN)
            else:
                self._poll.unregister(fd)
        self._polled = wanted

    def ready(self, events: dict[int, int]) -> list[socket.socket]:
        """Return the listeners that may have a connection to accept."""
        if self._waiting is not None:
            # Whether poll(2) has an event or not: ``accept`` must learn that another process has accepted what waited.
            return [listener for listener, count in self._waiting.items() if count]
        return [listener for fd, listener in self._listeners.items() if fd in events]

    def limit_to_backlog(self) -> None:
        """From now on accept only the connections that wait already: under load, new ones would come without end."""
        self._waiting = {listener: backlog.count_waiting(listener) for listener in self._listeners.values()}

    @property
    def backlog_accepted(self) -> bool:
        """Whether no connection is left of those that waited at ``limit_to_backlog``. Only before ``close``."""
        return self._waiting is not None and not any(self._waiting.values())

    def accept(self, listener: socket.socket, now: float) -> Accepted | None:
        """Return the next connection as socket, host and port, or None if nothing was accepted.

        Nothing is accepted where no connection waits, the limit of ``limit_to_backlog`` is reached, or the connection
        is gone. Without a free descriptor, one connection is closed instead, and ``paused_until`` is set.
        """
        if self._waiting and not self._waiting[listener]:
            return None
        try:
            connection, address = listener.accept()
        except OSError as error:
            # EAGAIN: no connection waits. ECONNABORTED and the network errors of accept(2) concern one connection.
            if error.errno in _NO_DESCRIPTORS:
                self._log.event("throttle", reason=f"accept failed: {error.strerror}", pause_s=f"{_PAUSE_S:.1f}")
                self._shed(listener, now)
            elif self._waiting and error.errno == errno.EAGAIN:
                self._waiting[listener] = 0  # another process has accepted them
            return None
        if self._waiting:
            self._waiting[listener] -= 1
        return connection, address[0], address[1]

    def close(self) -> None:
        """Accept no more. The supervisor owns the sockets and keeps them open."""
        self.poll_listeners(wanted=False)
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        self._waiting = None
        if self._reserve_fd is not None:
            # The reserve is a duplicate of a listener. While it is open, the kernel completes connections for nobody.
            os.close(self._reserve_fd)
            self._reserve_fd = None
        self.closed = True

    def _shed(self, listener: socket.socket, now: float) -> None:
        """Close one connection of the backlog with the reserve's descriptor, and pause: descriptors ran out."""
        self.paused_until = now + _PAUSE_S
        if self._reserve_fd is None:
            return
        os.close(self._reserve_fd)
        self._reserve_fd = None
        try:
            with listener.accept()[0] as connection:
                linger.end_in_order(connection)
        except OSError:
            pass  # ENFILE: another process took the descriptor
        self._reserve_fd = self._take_reserve()

    def _take_reserve(self) -> int | None:
        try:
            # Duplicate a listener: the confined master can open no file.
            return os.dup(next(iter(self._listeners)))
        except OSError:
            return None
