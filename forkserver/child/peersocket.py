"""Socket to the peer: receive and send within deadlines, and stop when the master says so. Runs in a child.

The socket never blocks. Every wait is one poll(2) with a deadline.

The master writes the phase (serving, draining, stopping) into the shared table, then sends SIGUSR1. The signal handler
is installed before the fork. The handler may raise only inside the wait, where no work is half done. The wait reads the
phase after it has allowed the handler to raise, so a signal that arrives before the wait is not lost.
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
"""Size of a read. Most requests fit, and a small buffer comes from a warm pool of the allocator."""
_LINGER_S = 2.0
_LINGER_BYTES = 65536
_LEFT_BYTES = 4096
"""Most unacknowledged bytes with which a connection may be closed: a reply line, or the end of an answer."""
_PAUSE_S = 0.1
_FIRST_PAUSE_S = 0.005


class PhaseChanged(Exception):
    """The phase in the shared table ends what this child is doing."""


class PhaseSignal:
    """Handler of SIGUSR1. It interrupts a wait if the phase exceeds what that wait tolerates."""

    __slots__ = ("_table", "_tolerated", "_waiting")

    def __init__(self, table: SlotTable) -> None:
        self._table = table
        self._waiting = False
        self._tolerated = 0

    def __call__(self, _number: int, _frame: object) -> None:
        """Handle the signal, signal(7). Raises PhaseChanged, but only during ``wait``."""
        if self._waiting and self._table.phase > self._tolerated:
            self._waiting = False
            raise PhaseChanged

    @property
    def phase(self) -> int:
        """The phase that the master has set."""
        return self._table.phase

    def check_phase(self, tolerated: int) -> None:
        """Raise PhaseChanged if the phase exceeds ``tolerated``."""
        if self._table.phase > tolerated:
            raise PhaseChanged

    def wait(self, poll: select.poll, deadline: float, tolerated: int) -> None:
        """Wait for an event. Raises PeerTooSlow at the deadline, PhaseChanged once the phase exceeds ``tolerated``."""
        self._tolerated = tolerated
        try:
            self._waiting = True
            self.check_phase(tolerated)
            left = deadline - clock.now()
            # Wait one millisecond longer: a poll that returns just before the deadline would be followed by another.
            if left <= 0 or not poll.poll(left * 1000 + 1):
                raise PeerTooSlow
        finally:
            self._waiting = False


class PeerSocket:
    """One connected socket, from the first byte of the peer to the close.

    ``tolerated`` is the latest phase in which the call goes on: SERVING, DRAINING or STOPPING.
    """

    def __init__(self, connection: socket.socket, phase_signal: PhaseSignal) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._phase_signal = phase_signal
        self._peer_ended = False
        self._sent_bytes = 0
        self.hold = False
        """Let the kernel hold back a partial segment for the next send (MSG_MORE, send(2)), at most 0.2 s (tcp(7))."""

    def receive(self, deadline: float, tolerated: int, size_bytes: int = RECEIVE_BYTES) -> bytes:
        """Return what the peer sent, at most ``size_bytes``; ``b""`` at end-of-file.

        Raises PeerTooSlow at the deadline, PeerGone where the connection is broken, PhaseChanged once the phase exceeds
        ``tolerated``.
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
        """Send all of ``data``, and remove from ``data`` what was sent. Raises as ``send_part`` does."""
        while data:
            del data[: self.send_part(data, pace, tolerated)]

    def send_part(self, data: bytearray | memoryview, pace: clock.Pace, tolerated: int) -> int:
        """Send as much of ``data`` as the kernel takes; return how many bytes.

        Raises PeerTooSlow where the peer takes nothing until the deadline of ``pace``, PeerGone where the connection is
        broken, PhaseChanged once the phase exceeds ``tolerated``.
        """
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
        """Send up to ``size_bytes`` of a file; return how many, 0 at the end of the file.

        Raises as ``send_part`` does, and OSError where the file cannot be read.
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
        """Raise PhaseChanged if the phase exceeds ``tolerated``. Call this between two pieces of long work."""
        self._phase_signal.check_phase(tolerated)

    def cork(self, *, on: bool) -> None:
        """Hold back partial segments, or send the last one (TCP_CORK, tcp(7)). Raises PeerGone."""
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, on)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:  # a Unix socket has no segments
                raise PeerGone from error

    def let_read(self, pace: clock.Pace) -> None:
        """Wait until the peer has acknowledged everything, then 0.1 s for its application to read.

        The bare dialect needs this: only separate reads keep its messages apart. A stop ends the wait. Raises PeerGone,
        and PeerTooSlow where the peer takes less than ``pace`` asks.
        """
        poll = select.poll()
        self._await_taken(poll, pace, DRAINING, 0)
        poll.poll(_PAUSE_S * 1000)

    @property
    def untaken(self) -> bool:
        """Whether the peer has still to acknowledge more than the last 4 KiB of what was sent."""
        return self._sent_bytes > _LEFT_BYTES and self._unacknowledged() > _LEFT_BYTES

    def await_taken(self, pace: clock.Pace, tolerated: int, *, or_input: bool) -> None:
        """Wait while ``untaken``, but no longer than until the phase exceeds ``tolerated``.

        ``or_input``: no longer than until the peer sends, either. Raises PeerGone, and PeerTooSlow where the peer takes
        less than ``pace`` asks.
        """
        poll = select.poll()
        if or_input:
            poll.register(self._socket, select.POLLIN)
        self._await_taken(poll, pace, tolerated, _LEFT_BYTES)

    def close(self, pace: clock.Pace | None) -> None:
        """Close the connection in order, so that a reset loses nothing that was sent; without a ``pace``, reset it.

        To close in order: shut down; read on for a bounded time, because the kernel also resets a socket that is closed
        with unread bytes (RFC 1122 4.2.2.13); then wait until the peer has taken what was sent, at least as fast as
        ``pace`` asks. Without this wait the kernel would hold the rest for a connection that no limit counts.

        Raises PeerGone, PeerTooSlow or, because a stop waits for no peer, PhaseChanged where the peer has not taken
        what was sent. The connection is closed anyway.
        """
        try:
            if pace:
                self._close_in_order(pace)
        except PhaseChanged:
            if self.untaken:
                raise
        except (PeerGone, OSError) as error:
            if self.untaken:
                raise PeerGone from error
        finally:
            os.close(self._socket.detach())  # socket.close() is three calls in Python

    def _close_in_order(self, pace: clock.Pace) -> None:
        linger.end_in_order(self._socket)
        self._end()
        if self.untaken:
            linger.reset_at_close(self._socket)  # if this child is killed now, the kernel must free the queue at once
            self._await_taken(select.poll(), pace, DRAINING, _LEFT_BYTES)
            linger.end_in_order(self._socket)  # a stop ends the wait, but not the connection: the kernel sends the rest
            self.check_phase(DRAINING)

    def _end(self) -> None:
        """Shut down, and read until the peer closes, at most 2 s and 64 KiB. Raises PeerGone, PhaseChanged, OSError."""
        self._socket.shutdown(socket.SHUT_WR)
        deadline = clock.now() + _LINGER_S
        left = 0 if self._peer_ended else _LINGER_BYTES
        try:
            while left > 0 and (data := self.receive(deadline, DRAINING)):
                left -= len(data)
        except PeerTooSlow:
            pass  # the peer may keep its side open

    def _await_taken(self, poll: select.poll, pace: clock.Pace, tolerated: int, left_bytes: int) -> None:
        """Wait while more than ``left_bytes`` are unacknowledged, until an event of ``poll``.

        The kernel has no event for an acknowledgement, so this polls.
        """
        before = self._unacknowledged()
        deadline = pace.deadline()
        pause_s = _FIRST_PAUSE_S
        while before > left_bytes and self._phase_signal.phase <= tolerated and not poll.poll(pause_s * 1000):
            pause_s = min(2 * pause_s, _PAUSE_S)
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

    def _unacknowledged(self) -> int:
        # SIOCOUTQ is TIOCOUTQ (tcp(7)): bytes sent and not acknowledged.
        return int.from_bytes(fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4)), "little")

    def _wait_for_room(self, pace: clock.Pace, tolerated: int) -> None:
        while True:
            before = self._unacknowledged()
            try:
                return self._wait(select.POLLOUT, pace.deadline(), tolerated)
            except PeerTooSlow:
                # poll(2) reports room once a third of the buffer is free and half of ``listener.UNSENT_BYTES`` is
                # sent. A peer that took less than that is slow, but has not stalled.
                if self._unacknowledged() >= before:
                    raise

    def _wait(self, events: int, deadline: float, tolerated: int) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        self._phase_signal.wait(poll, deadline, tolerated)
