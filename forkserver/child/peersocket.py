"""The connection as the child sees it: receive and send within deadlines, check_phase the master. Runs in a child.

The socket never blocks; every wait is one poll(2) with a deadline. SIGUSR1 is the master's tap on the shoulder: the
wish itself stands in the slot table. The handler, installed before the fork, may raise only inside the wait, where
nothing is half done, and the wish is read there too, so a tap that comes before the wait is not lost.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import termios

from forkserver.child import clock
from forkserver.errors import PeerGone, PeerTooSlow
from forkserver.ipc.slots import DRAINING, SlotTable
from forkserver.kernel import linger

RECEIVE_BYTES = 512
"""A small read stays in one of the allocator's warm pools, and most peers ask for no more."""
_LINGER_S = 2.0
_LINGER_BYTES = 65536
_LEFT_BYTES = 4096
"""Most bytes that may be left to the kernel when the connection is closed: a reply, or the end of an answer."""
_PACE_S = 0.1
_PACE_POLL_S = 0.005


class PhaseChanged(Exception):
    """The master wishes that this child ends now."""


class PhaseSignal:
    """The handler of SIGUSR1. It wakes the wire that waits, if the master's wish exceeds that one's tolerated."""

    __slots__ = ("_table", "_tolerated", "_waiting")

    def __init__(self, table: SlotTable) -> None:
        self._table = table
        self._waiting = False
        self._tolerated = 0

    def __call__(self, _number: int, _frame: object) -> None:
        """Handle the signal, signal(7). Raises PhaseChanged, only where somebody waits."""
        if self._waiting and self._table.phase > self._tolerated:
            self._waiting = False
            raise PhaseChanged

    @property
    def phase(self) -> int:
        """What the master wishes of its children."""
        return self._table.phase

    def check_phase(self, tolerated: int) -> None:
        """Raises PhaseChanged if the wish exceeds ``tolerated``."""
        if self._table.phase > tolerated:
            raise PhaseChanged

    def wait(self, poll: select.poll, deadline: float, tolerated: int) -> None:
        """Wait for an event. Raises PeerTooSlow at the deadline, PhaseChanged once the wish exceeds ``tolerated``."""
        self._tolerated = tolerated
        try:
            self._waiting = True
            self.check_phase(tolerated)
            left = deadline - clock.now()
            # A millisecond more: a poll that returned just before the deadline would only be followed by another.
            if left <= 0 or not poll.poll(left * 1000 + 1):
                raise PeerTooSlow
        finally:
            self._waiting = False


class PeerSocket:
    """One connected socket, from its peer's first byte to its close."""

    def __init__(self, connection: socket.socket, phase_signal: PhaseSignal) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._phase_signal = phase_signal
        self._peer_ended = False
        self._sent_bytes = 0
        self.hold = False
        """What is sent may wait for what is sent next (MSG_MORE, send(2)), a fifth of a second at most (tcp(7))."""

    def receive(self, deadline: float, tolerated: int, size_bytes: int = RECEIVE_BYTES) -> bytes:
        """What the peer sent, at most ``size_bytes``; ``b""`` at its end-of-file.

        Raises PeerTooSlow at the deadline, PeerGone on a reset, PhaseChanged once the phase exceeds ``tolerated``.
        """
        while True:
            try:
                data = self._socket.recv(size_bytes)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline, tolerated)
            except OSError as error:
                raise PeerGone from error
            else:
                self._peer_ended = not data
                return data

    def send(self, data: bytearray, pace: clock.Pace, tolerated: int) -> None:
        """Send all of ``data``, and take out of it what is gone. Raises as ``receive`` does."""
        while data:
            del data[: self.send_part(data, pace, tolerated)]

    def send_part(self, data: bytearray | memoryview, pace: clock.Pace, tolerated: int) -> int:
        """Send as much of ``data`` as there is room for; returns how many bytes. Raises as ``receive`` does."""
        while True:
            try:
                sent = self._socket.send(data, socket.MSG_MORE if self.hold else 0)
            except BlockingIOError:
                self._wait_for_room(pace, tolerated)
            except OSError as error:
                raise PeerGone from error
            else:
                pace.sent(sent)
                self._sent_bytes += sent
                return sent

    def send_file(self, file_fd: int, offset: int, size_bytes: int, pace: clock.Pace, tolerated: int) -> int:
        """Send up to ``size_bytes`` of a file; returns how many, 0 at the end of the file.

        Raises as ``receive`` does; an OSError is the file's.
        """
        while True:
            try:
                sent = os.sendfile(self._socket.fileno(), file_fd, offset, size_bytes)
            except BlockingIOError:
                self._wait_for_room(pace, tolerated)
            except (ConnectionError, TimeoutError) as error:
                raise PeerGone from error
            else:
                pace.sent(sent)
                self._sent_bytes += sent
                return sent

    def check_phase(self, tolerated: int) -> None:
        """Between two pieces of long work: raises PhaseChanged if the master's wish exceeds ``tolerated``."""
        self._phase_signal.check_phase(tolerated)

    def cork(self, *, on: bool) -> None:
        """Hold back partial segments, or let the last one go (TCP_CORK, tcp(7))."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a Unix socket has no segments
                raise PeerGone from error

    def let_read(self, deadline: float) -> None:
        """Wait until the peer has had time to read: all is acknowledged, and a moment more. Raises PeerTooSlow.

        For the bare dialect, whose messages only separate reads keep apart. The kernel has no event for this.
        """
        poll = select.poll()
        while self._unacknowledged():
            if clock.now() >= deadline:
                raise PeerTooSlow
            poll.poll(_PACE_POLL_S * 1000)
        poll.poll(_PACE_S * 1000)

    def close(self, pace: clock.Pace | None) -> None:
        """Close in order, so that nothing sent is lost to a reset; with None instead of ``pace``: reset.

        In order means: shut down, read on for a bounded while, for a socket that is closed with unread bytes is reset
        too (RFC 1122 4.2.2.13), and wait until the peer has taken what was sent, as fast as ``pace`` asks. Otherwise
        the kernel would hold the rest, for a connection that counts for no limit.
        """
        try:
            if pace:
                linger.end_in_order(self._socket)
                self._end()
                self._await_taken(pace)
        except (PeerGone, PeerTooSlow, PhaseChanged, OSError):
            pass  # the peer had its chance
        os.close(self._socket.detach())  # socket.close() is three calls in Python

    def _end(self) -> None:
        """Shut down, and read on until the peer closes, for a while. Raises PeerGone, PhaseChanged, OSError."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline = clock.now() + _LINGER_S
        left = 0 if self._peer_ended else _LINGER_BYTES
        try:
            while left > 0 and (data := self.receive(deadline, DRAINING)):
                left -= len(data)
        except PeerTooSlow:
            pass  # it need not close

    def _await_taken(self, pace: clock.Pace) -> None:
        """Wait until all is acknowledged but what is too little to matter. The kernel has no event for this.

        Raises PeerTooSlow, then the close resets the connection; PeerGone; OSError. A stop ends the wait, not the
        connection: the kernel sends the rest.
        """
        if self._sent_bytes <= _LEFT_BYTES or (before := self._unacknowledged()) <= _LEFT_BYTES:
            return
        linger.reset_at_close(self._socket)  # of a child that is killed now, nothing must be left
        poll = select.poll()
        deadline = pace.deadline()
        pause_s = _PACE_POLL_S
        while before > _LEFT_BYTES and self._phase_signal.phase <= DRAINING:
            poll.poll(pause_s * 1000)
            pause_s = min(2 * pause_s, _PACE_S)
            # A connection that was reset keeps its count of unacknowledged bytes.
            if self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise PeerGone
            left = self._unacknowledged()
            if left < before:
                pace.sent(before - left)
                deadline = pace.deadline()
            elif clock.now() >= deadline:
                raise PeerTooSlow
            before = left
        linger.end_in_order(self._socket)

    def _unacknowledged(self) -> int:
        # SIOCOUTQ is TIOCOUTQ (tcp(7)): bytes sent and not acknowledged.
        return int.from_bytes(fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4)), "little")

    def _wait_for_room(self, pace: clock.Pace, tolerated: int) -> None:
        while True:
            before = self._unacknowledged()
            try:
                return self._wait(select.POLLOUT, pace.deadline(), tolerated)
            except PeerTooSlow:
                # For poll(2) there is room once a third of the buffer is free and half of ``listener.UNSENT_BYTES`` is
                # sent: a peer that took less is slow, but does not stall.
                if self._unacknowledged() >= before:
                    raise

    def _wait(self, events: int, deadline: float, tolerated: int) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        self._phase_signal.wait(poll, deadline, tolerated)
