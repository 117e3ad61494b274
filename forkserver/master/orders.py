"""The channel to the supervisor: its orders in, our heartbeat out. Runs in the master."""

from __future__ import annotations

import socket

from forkserver.ipc import control
from forkserver.master.admission import Admission

_AGAIN_S = 0.05


class Orders:
    """Never blocks on a supervisor that is stopped, and survives one that is gone.

    ``now`` is always the loop's clock, in seconds.
    """

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reported = (-1, -1)
        self._acknowledged = False
        self.report_at = 0.0
        """When the next heartbeat is due; set to 0 for at once."""

    def fileno(self) -> int:
        """For the poll set."""
        return self._channel.fileno()

    def hear(self) -> bytes:
        """The next order; empty if the supervisor is gone."""
        try:
            return self._channel.recv(control.MAX_PACKET_BYTES)
        except ConnectionResetError:  # it died with a word of ours unread
            return b""

    def report(self, state: tuple[int, int], now: float) -> None:
        """Send the heartbeat if it is due: children alive, connections served."""
        if now >= self.report_at:
            self._report(state, now)

    def report_draining(self, state: tuple[int, int], admission: Admission, now: float) -> None:
        """Send, if it is due or there is news, what the next generation waits for: peers first, then the heartbeat.

        ``admission`` must have been told to disclose them.
        """
        if now < self.report_at and state == self._reported and not admission.news:
            return
        if admission.news and not control.send_peers(self._channel, admission.news, admission.count):
            self.report_at = now + _AGAIN_S
            return
        self._acknowledged = self._acknowledged or self._send(control.DRAIN)
        self._report(state, now)

    def _report(self, state: tuple[int, int], now: float) -> None:
        self._reported = state
        self.report_at = now + control.HEARTBEAT_S
        self._send(b"%s%d %d" % (control.REPORT, *state))

    def _send(self, packet: bytes) -> bool:
        try:
            self._channel.send(packet, socket.MSG_DONTWAIT)
        except ConnectionError:
            pass  # it is gone, which shows otherwise
        except OSError:
            return False  # it is not reading
        return True
