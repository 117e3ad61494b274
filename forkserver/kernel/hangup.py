"""Tell when the peer of a connection is gone, even if only another process still has the connection, by epoll(7).

An epoll instance watches open file descriptions, not descriptors. It goes on watching after this process has closed its
own descriptor, and forgets a connection by itself when the last process has closed it. So there is nothing to clean up,
and a fork copies no descriptors for it.

An event carries the number that the caller gave, because descriptors are reused. ``select.epoll`` can carry only the
descriptor; this is why the module uses ``ctypes``.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct

from forkserver.kernel import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

# struct epoll_event: events and data. The kernel packs it on x86-64, and aligns it everywhere else.
_EVENT = struct.Struct("=IQ" if os.uname().machine == "x86_64" else "@IQ")
_EPOLL_CTL_ADD = 1
_MAX_EVENTS = 256
_EVENTS = select.EPOLLRDHUP | select.EPOLLET
"""EPOLLHUP and EPOLLERR are always reported. Edge-triggered: each event is reported once, not as long as it lasts."""

_epoll_wait = libc.function("epoll_wait")


class Hangups:
    """Watch connections. ``fileno`` is readable when ``read`` may have something to return."""

    # The master calls `watch` once per fork, and each page that the call touches after a fork is copied. So keep what
    # the call needs together.
    __slots__ = ("_buffer", "_control", "_epoll", "_fd", "_pack")

    def __init__(self) -> None:
        """Raises OSError where no descriptor can be had."""
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()
        self._control = libc.function("epoll_ctl")
        self._pack = _EVENT.pack
        self._buffer = ctypes.create_string_buffer(_EVENT.size * _MAX_EVENTS)

    def fileno(self) -> int:
        """Return the descriptor for a poll set."""
        return self._fd

    def watch(self, fd: int, number: int) -> bool:
        """Watch the connection at ``fd`` as ``number`` (64 bits) until the last process has closed it.

        False: the kernel has no room for one more (``/proc/sys/fs/epoll/max_user_watches``).
        """
        return self._control(self._fd, _EPOLL_CTL_ADD, fd, self._pack(_EVENTS, number)) == 0

    def read(self) -> Iterator[tuple[int, bool]]:
        """Yield the number of each connection whose peer has closed it since the last call, and whether it is gone.

        True: the connection was reset, timed out, or closed by both sides. False: the peer has closed only its sending
        side (EPOLLRDHUP), and may still wait for an answer.
        """
        while count := _epoll_wait(self._fd, self._buffer, _MAX_EVENTS, 0):
            if count < 0:
                return
            for events, number in _EVENT.iter_unpack(self._buffer.raw[: count * _EVENT.size]):
                yield number, bool(events & (select.EPOLLHUP | select.EPOLLERR))
