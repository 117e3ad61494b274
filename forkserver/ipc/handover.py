"""Queue on which the master forwards connections to idle children, and pipe on which children announce themselves.

``Handover`` is the master's side, ``Intake`` the child's. A connection travels as a descriptor (SCM_RIGHTS, unix(7))
with its number and its peer. All idle children receive from the same SOCK_SEQPACKET socket, so the kernel gives each
packet to exactly one child. The master never forwards more connections than there are idle children. Otherwise a
connection in the queue would wait for a child that is still busy.
"""

from __future__ import annotations

import os
import select
import socket
import sys

_RECORD_BYTES = 16
_MAX_PACKET_BYTES = 256
_MAX_RECORDS = 256

IDLE_CHILD_S = 60


class Intake:
    """The child's side: the queue to receive from, and the pipe to announce itself on."""

    __slots__ = ("_available_fd", "_queue")

    def __init__(self, queue: socket.socket, available_fd: int) -> None:
        self._queue = queue
        self._available_fd = available_fd

    def descriptors(self) -> tuple[int, int]:
        """Return the descriptors that a child must keep open to take more connections."""
        return self._queue.fileno(), self._available_fd

    def take(self) -> tuple[socket.socket, int, str] | None:
        """Wait for a connection, and return socket, number and peer. None: this child must end.

        None means that the master drains or is gone, has too many idle children, or had no connection for 60 s. A
        connection that is queued at this moment is not lost: another idle child takes it, or the master forks a child.
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
        # With family and type given, right or wrong, Python does not ask the kernel for them with three calls. Nothing
        # here depends on the family.
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=fd), int(number), peer

    def announce(self, child: int, connection: int) -> None:
        """Tell the master that ``child`` has finished with ``connection`` and will take another one.

        Sixteen bytes are below PIPE_BUF, so the kernel writes all of them or none. If the master is gone, ``take``
        notices.
        """
        try:
            os.write(self._available_fd, child.to_bytes(8, "little") + connection.to_bytes(8, "little"))
        except BrokenPipeError:
            pass


class Handover:
    """The master's side. A child that waits longer than ``idle_s`` (whole seconds) ends.

    Raises OSError if no descriptors are left.
    """

    def __init__(self, idle_s: int = IDLE_CHILD_S) -> None:
        self._queue, self._child_queue = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # struct timeval. A timeout in the kernel costs a child no further system call.
        timeout = idle_s.to_bytes(8, sys.byteorder) + bytes(8)
        self._child_queue.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        self._queue.setblocking(False)
        self.available_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.available_fd, False)
        self.intake = Intake(self._child_queue, write_fd)
        self.broken = False
        """A child has shut down the queue. Only a compromised child does that. The queue cannot be used any more."""

    def forward(self, connection: socket.socket, number: int, peer: str) -> bool:
        """Queue a connection; the caller closes its own copy. Return False if the kernel takes no more descriptors."""
        fd = connection.fileno().to_bytes(4, sys.byteorder)
        try:
            packet = f"{number} {peer}".encode("ascii")
            self._queue.sendmsg([packet], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fd)])
        except OSError as error:
            # EAGAIN, ENOBUFS or ETOOMANYREFS: nothing was queued. A new child can still serve this connection.
            self.broken = isinstance(error, BrokenPipeError)
            return False
        return True

    def dismiss(self) -> bool:
        """Queue the order that ends one idle child. Return False if the queue is full: then no child is idle."""
        try:
            self._queue.sendmsg([b""])
        except OSError:
            return False
        return True

    def read_available(self) -> list[tuple[int, int]]:
        """Return child and finished connection of each announcement since the last call."""
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
        """Whether children have taken every forwarded connection."""
        poll = select.poll()
        poll.register(self._child_queue, select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Forward no more. Idle children take what is queued, then read end-of-file and exit."""
        self._queue.close()
        self._child_queue.close()
