"""The shared queue: the master forwards connections, idle children take them and tell when they are available again.

Both halves of the one wire stand here; ``Handover`` is the master's, ``Intake`` the child's. A connection travels as
a descriptor (SCM_RIGHTS, unix(7)) with its number and its peer; all idle children receive from the same SOCK_SEQPACKET
socket, so the kernel gives each packet to exactly one. The master never forwards more than there are idle children:
a connection in the queue would otherwise wait for the slowest of them.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_RECORD_BYTES = 16
_MAX_PACKET_BYTES = 256
_MAX_RECORDS = 256

IDLE_CHILD_S = 60


class Intake:
    """The child's half: a queue to receive from, a pipe to announce oneself on."""

    __slots__ = ("_available_fd", "_queue")

    def __init__(self, queue: socket.socket, available_fd: int) -> None:
        self._queue = queue
        self._available_fd = available_fd

    def descriptors(self) -> tuple[int, int]:
        """What a child must keep open to take more connections."""
        return self._queue.fileno(), self._available_fd

    def take(self) -> tuple[socket.socket, int, str] | None:
        """Wait for a connection: socket, number, peer. None: end this child.

        The master drains or is gone, or has too many like this one, or there was nothing to do for too long. A
        connection that is queued in this very moment is not lost: another child takes it, or the master, seeing one
        less, forks one that does.
        """
        try:
            packet, ancillary, _flags, _address = self._queue.recvmsg(
                _MAX_PACKET_BYTES, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return None
        if not packet:
            return None
        number, _, peer = packet.decode("ascii").partition(" ")
        fd = int.from_bytes(ancillary[0][2][:4], sys.byteorder)
        # Told its kind, right or wrong, it does not ask the kernel, three times; nothing here depends on the family.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd), int(number), peer

    def announce(self, child: int, connection: int) -> None:
        """Tell the master that ``child`` has finished with ``connection`` and will take another.

        Sixteen bytes are below PIPE_BUF: written whole or not at all. A master that is gone cannot be told; ``take``
        will notice.
        """
        try:
            os.write(self._available_fd, child.to_bytes(8, "little") + connection.to_bytes(8, "little"))
        except BrokenPipeError:
            pass


def _packet(number: int, peer: str) -> bytes:
    return f"{number} {peer}".encode("ascii")


class Handover:
    """The master's half. A child that waits longer than ``idle_s`` (whole seconds) ends: crowds leave none behind.

    Raises OSError where no descriptors are to be had.
    """

    def __init__(self, idle_s: int = IDLE_CHILD_S) -> None:
        self._queue, child_queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # struct timeval. The kernel's own timeout costs a child no further system call.
        child_queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, idle_s.to_bytes(8, sys.byteorder) + bytes(8))
        self._queue.setblocking(False)
        self.available_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.available_fd, False)
        self.intake = Intake(child_queue, write_fd)
        self.broken = False
        """The queue is shut down. No child of ours does that: one was taken over, and the queue is of no more use."""

    def forward(self, connection: socket.socket, number: int, peer: str) -> bool:
        """Queue a connection; the caller closes its own copy. False: the kernel took no more descriptors just now."""
        fd = connection.fileno().to_bytes(4, sys.byteorder)
        try:
            self._queue.sendmsg([_packet(number, peer)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        except OSError as error:
            # EAGAIN, ENOBUFS or ETOOMANYREFS: nothing was queued. A fork can still serve this connection.
            self.broken = isinstance(error, BrokenPipeError)
            return False
        return True

    def taken(self, forwarded: Sequence[tuple[int, str]]) -> list[int]:
        """Return the numbers of those connections that a child has taken from the queue.

        ``forwarded`` are the number and the peer of each, in the order in which they were forwarded; connections that
        surely were taken may be left out. After ``close`` all count as taken.
        """
        # FIONREAD is the sum of all queued packets. The queue gives the oldest packet first.
        queue_fd = self.intake.descriptors()[0]
        queued = 0 if queue_fd < 0 else int.from_bytes(fcntl.ioctl(queue_fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        left = [number for number, _ in forwarded]
        while left and queued > 0:
            queued -= len(_packet(*forwarded[len(left) - 1]))
            left.pop()
        return left

    def dismiss(self) -> bool:
        """Queue the end of one idle child. False: the queue is full, so none is idle."""
        try:
            self._queue.sendmsg([b""])
        except OSError:
            return False
        return True

    def read_available(self) -> list[tuple[int, int]]:
        """Children that announced themselves since the last call: (child, connection finished)."""
        try:
            data = os.read(self.available_fd, _RECORD_BYTES * _MAX_RECORDS)
        except BlockingIOError:
            return []
        return [
            (int.from_bytes(data[at : at + 8], "little"), int.from_bytes(data[at + 8 : at + 16], "little"))
            for at in range(0, len(data), _RECORD_BYTES)
        ]

    @property
    def empty(self) -> bool:
        """Whether every connection forwarded was taken."""
        poll = select.poll()
        poll.register(self.intake.descriptors()[0], select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Forward no more: idle children take what is queued, then find end-of-file and exit."""
        self._queue.close()
        self.intake._queue.close()  # noqa: SLF001 - the other half of this very object
