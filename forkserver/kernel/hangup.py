"""Tell when the peer of a connection is gone, although only another process still has the connection, by epoll(7).

An epoll instance watches open file descriptions, not descriptors: it goes on after this process has closed its own
descriptor, and forgets a connection by itself when the last process has closed it. So nothing has to be cleaned up, and
a fork copies no descriptors for it.

The data of an event is the number that the caller gave, because descriptors are reused. ``select.epoll`` can store only
the descriptor, hence ``ctypes``.
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
"""EPOLLHUP and EPOLLERR are always reported. Edge-triggered, each is reported once and not as long as it lasts."""

_epoll_wait = libc.function("epoll_wait")


class Hangups:
    """Watches connections. ``fileno`` is readable when ``read`` may have something to return."""

    # The master calls ``watch`` once per fork. Each page that the call touches after a fork is copied, so what the call
    # needs is kept together.
    __slots__ = ("_buffer", "_control", "_epoll", "_fd", "_pack")

    def __init__(self) -> None:
        """Raises OSError where no descriptor can be had."""
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()
        self._control = libc.function("epoll_ctl")
        self._pack = _EVENT.pack
        self._buffer = ctypes.create_string_buffer(_EVENT.size * _MAX_EVENTS)

    def fileno(self) -> int:
        """For a poll set."""
        return self._fd

    def watch(self, fd: int, number: int) -> bool:
        """Watch the connection at ``fd`` under ``number`` (64 bits) until the last process has closed it.

        False: the kernel has no room for more (``/proc/sys/fs/epoll/max_user_watches``).
        """
        return self._control(self._fd, _EPOLL_CTL_ADD, fd, self._pack(_EVENTS, number)) == 0

    def read(self) -> Iterator[tuple[int, bool]]:
        """Yield the number of each connection whose peer has closed something since the last call, and what.

        True: the connection was reset, timed out, or closed by both sides. False: the peer has closed its sending side
        (EPOLLRDHUP), and may still wait for an answer.
        """
        while count := _epoll_wait(self._fd, self._buffer, _MAX_EVENTS, 0):
            if count < 0:
                return
            for events, number in _EVENT.iter_unpack(self._buffer.raw[: count * _EVENT.size]):
                yield number, bool(events & (select.EPOLLHUP | select.EPOLLERR))
