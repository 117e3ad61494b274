"""The channel to the supervisor: its orders in, our heartbeat out. Runs in the master."""

from __future__ import annotations

import socket

from forkserver import control


class Orders:
    """Never blocks on a supervisor that is stopped, and survives one that is gone."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reported = (-1, -1)
        self.report_at = 0.0
        """When the next heartbeat is due, by the loop's clock; set to 0 for at once."""

    def fileno(self) -> int:
        """For the poll set."""
        return self._channel.fileno()

    def hear(self) -> bytes:
        """The next order; empty if the supervisor is gone."""
        try:
            return self._channel.recv(control.MAX_PACKET_BYTES)
        except ConnectionResetError:  # it died with a word of ours unread
            return b""

    def report(self, state: tuple[int, int], now: float, *, eager: bool) -> None:
        """Send the heartbeat if it is due: children alive, connections served. ``eager``: whenever that is news."""
        if now < self.report_at and not (eager and state != self._reported):
            return
        self._reported = state
        self.report_at = now + control.HEARTBEAT_S
        try:
            self._channel.send(b"%s%d %d" % (control.REPORT, *state), socket.MSG_DONTWAIT)
        except OSError:
            pass  # it is gone, or not reading: both show otherwise
