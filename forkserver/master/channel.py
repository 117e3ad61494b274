"""The master's end of the control channel: commands of the supervisor in, reports out. Runs in the master.

Nothing here blocks: a supervisor may be stopped, or dead.
"""

from __future__ import annotations

import socket

from forkserver.ipc import control
from forkserver.master.admission import Admission

_RETRY_S = 0.05


class ControlChannel:
    """Receive commands and send reports over ``channel``. ``now`` is always the loop's clock, in seconds."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reported = (-1, -1)
        self._acknowledged = False
        self.report_at = 0.0
        """When the next report is due; set to 0 for at once."""

    def fileno(self) -> int:
        """Return the descriptor for the poll set."""
        return self._channel.fileno()

    def receive(self) -> bytes:
        """Return the next command; empty if the supervisor is gone."""
        try:
            return self._channel.recv(control.MAX_PACKET_BYTES)
        except ConnectionResetError:  # the supervisor died with a report unread
            return b""

    def report(self, counts: tuple[int, int], now: float) -> None:
        """Send the report if it is due: ``counts`` are the live children and the connections served."""
        if now >= self.report_at:
            self._report(counts, now)

    def report_draining(self, counts: tuple[int, int], admission: Admission, now: float) -> None:
        """Send what the next generation waits for, if it is due or has changed: the peers, then the report.

        Call ``admission.disclose`` before.
        """
        if now < self.report_at and counts == self._reported and not admission.unreported:
            return
        if admission.unreported and not control.send_peers(self._channel, admission.unreported, admission.count):
            self.report_at = now + _RETRY_S
            return
        self._acknowledged = self._acknowledged or self._send(control.DRAIN)
        self._report(counts, now)

    def _report(self, counts: tuple[int, int], now: float) -> None:
        self._reported = counts
        self.report_at = now + control.HEARTBEAT_S
        self._send(b"%s%d %d" % (control.REPORT, *counts))

    def _send(self, packet: bytes) -> bool:
        """Send a packet; False: the channel is full."""
        try:
            self._channel.send(packet, socket.MSG_DONTWAIT)
        except ConnectionError:
            pass  # The supervisor is gone; `receive` tells.
        except OSError:
            return False
        return True
