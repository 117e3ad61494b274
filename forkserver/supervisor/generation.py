"""One master process, from its start to its end. Runs in the supervisor.

The master is started as a program; the supervisor imports no code of the master's.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable

import forkserver
from forkserver.errors import OperatorError, name_exit
from forkserver.ipc import control
from forkserver.protocol.printable import escape_unprintable
from forkserver.settings import Settings
from forkserver.supervisor import logoutput
from forkserver.supervisor.listener import Listeners
from forkserver.supervisor.sharedtables import SharedTable
from forkserver.supervisor.systemd import TABLE_PREFIX

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(forkserver.__file__)), "master", "__main__.py")
COMMAND: tuple[str, ...] = (sys.executable, "-I", "-S", "-E", _PROGRAM)
"""Isolated, without site-packages and environment: every child pays for what the master imports."""
MAX_MISSED_HEARTBEATS = 5
"""Heartbeats, one each ``control.HEARTBEAT_S`` of the supervisor's clock, before a ready master counts as stuck."""
MAX_STARTING_HEARTBEATS = 30
"""The same for a master that is not ready: a hundred times what a start takes, for slow disks and busy machines, and
half of what ``forkserver reload`` waits."""
_MAX_PACKETS_A_TURN = 64
_MAX_COMPLAINT_BYTES = 2000
_MAX_BAD_MESSAGE_BYTES = 100


class Generation:
    """A master with the settings it was started with."""

    def __init__(self, number: int, settings: Settings, listeners: Listeners) -> None:
        """Start the master. Raises OperatorError if no process can be made."""
        self.number = number
        self.settings = settings
        self.listeners = listeners
        self.ready = False
        self.retiring = False
        self.counts_known = True
        """Whether ``children`` and ``peers`` are up to date: not between the order to retire and its answer."""
        self.version = ""
        self.children = 0
        self.served = 0
        self.peers: dict[str, int] = {}
        """Connections of each peer with this master. Only a retiring master reports them."""
        self.unsent_peers: set[str] = set()
        """Peers whose connections with the other masters have changed since this master was told."""
        self.table: SharedTable | None = None
        """The shared table, once the master has sent it. ``OrphanTables`` closes it after the master's end."""
        self.log_id = logoutput.identify()
        """The file to which this master and its children write their log."""
        self.complaint = ""
        """Why the master could not start, in its own words."""
        self.bad_message = ""
        """A message that no sound master sends. Nothing more is read from this master."""
        self._missed_heartbeats = 0
        self._abandoned = False
        self._retirement_confirmed = False
        self._order = b""
        self._sent_others: int | None = None
        self._channel_full = False
        try:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                packet = logoutput.with_chosen_form(settings).encode()
                socket.send_fds(self._channel, [packet], [listener.fileno() for listener in listeners.values()])
                self._process = subprocess.Popen(  # noqa: S603 - our own program, with our own interpreter
                    [*COMMAND, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    cwd="/",
                    # A terminal's Ctrl-C must reach the supervisor only, which then drains. Orphans are known by their
                    # session, too.
                    start_new_session=True,
                )
        except OSError as error:
            raise OperatorError(f"cannot start a master with {COMMAND[0]}: {error.strerror}") from error
        self._channel.setblocking(False)

    @property
    def pid(self) -> int:
        """The master's PID."""
        return self._process.pid

    def register(self, poll: select.poll) -> None:
        """Add the channel to a poll set: for messages, and for room if a message waits to be sent."""
        if not self._abandoned:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._channel_full else 0))

    def read_messages(self) -> tuple[bool, set[str]]:
        """Read what the master sent; return whether it became ready, and the peers whose count has changed.

        The master is not trusted. If it sends without end, the rest is left for the next turn of the loop. A message
        that no master sends is kept as ``bad_message``.
        """
        was_ready = self.ready
        changed: set[str] = set()
        for _ in range(_MAX_PACKETS_A_TURN):
            packet = b"" if self._abandoned or self.bad_message else self._receive()
            if not packet:
                break
            try:
                self._handle(packet, changed)
            except ValueError:
                self.bad_message = _printable(packet[:_MAX_BAD_MESSAGE_BYTES])
        return self.ready and not was_ready, changed

    def _receive(self) -> bytes:
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, control.MAX_PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, ConnectionResetError):
            return b""
        for fd in fds:
            if packet == control.TABLE and not self.table:
                self._take_table(fd)
            else:
                os.close(fd)  # a compromised master may send descriptors that nobody asked for
        return packet

    def _handle(self, packet: bytes, changed: set[str]) -> None:
        if packet.startswith(control.REPORT):
            self._missed_heartbeats = 0
            self.counts_known = self._retirement_confirmed or not self.retiring
            self.children, served = control.parse_report(packet)
            self.served = max(self.served, served)
        elif packet.startswith(control.PEERS):
            peers = control.parse_peers(packet)
            control.merge_peers(self.peers, peers)
            changed.update(peers)
            if len(self.peers) > control.MAX_PEERS:
                raise ValueError("more peers than a master can have")
        elif packet == control.DRAIN:
            self._retirement_confirmed = True
        elif packet.startswith(control.READY):
            self._missed_heartbeats = 0
            self.version = packet.removeprefix(control.READY).decode("ascii", "replace")
            self.ready = True
        elif packet.startswith(control.FAILED):
            self.complaint = _printable(packet.removeprefix(control.FAILED)[:_MAX_COMPLAINT_BYTES])

    def _take_table(self, fd: int) -> None:
        """Own the shared table, if ``fd`` is one in a format that this version knows."""
        try:
            self.table = SharedTable(fd, f"{TABLE_PREFIX}{os.getpid()}-{self.number}")
        except ValueError:
            os.close(fd)

    def check_heartbeat(self) -> str:
        """Return why the master must be replaced, or an empty text. Call this every ``control.HEARTBEAT_S``."""
        self._missed_heartbeats += 1
        limit = MAX_MISSED_HEARTBEATS if self.ready else MAX_STARTING_HEARTBEATS
        if self._abandoned or self._missed_heartbeats <= limit:
            return ""
        if self.ready:
            return "the master's loop does not run; the supervisor replaces the master"
        return f"the master was not ready after {limit * control.HEARTBEAT_S:.0f} s; see whether its root answers"

    def retire(self, successor: Generation) -> None:
        """Have the master accept no more, let its children finish, and end.

        The master still serves the backlog of the addresses that ``successor`` does not have.
        """
        self.retiring = True
        # A master that is not ready was never told to accept. It has no connections, and may answer late.
        self.counts_known = not self.ready
        inherited = self.listeners.keys() <= successor.listeners.keys()
        self.send_order(control.YIELD if inherited else control.DRAIN)

    def send_totals(self, children: int, connections: Callable[[str], int]) -> None:
        """Send what the other masters have: connections of the ``unsent_peers``, then how many children if changed."""
        if not control.send_peers(self._channel, self.unsent_peers, connections):
            self._channel_full = True
        elif children != self._sent_others and self._send(b"%s%d" % (control.OTHERS, children)):
            self._sent_others = children

    def send_order(self, order: bytes) -> None:
        """Send DRAIN, YIELD or STOP; if the channel is full, ``flush`` sends the order later."""
        self._order = order
        self.flush()

    def flush(self) -> None:
        """Send the order that waits, if any."""
        self._channel_full = False
        if self._order and self._send(self._order):
            self._order = b""

    def _send(self, packet: bytes) -> bool:
        try:
            self._channel.send(packet)
        except ConnectionError:
            pass  # the master is dead and needs no message
        except OSError:
            self._channel_full = True
        return not self._channel_full

    def poll_exit(self) -> str | None:
        """Return the word for how the master ended, or None while it lives."""
        code = self._process.poll()
        return None if code is None else name_exit(code)

    def kill(self) -> None:
        """Kill the master."""
        self._process.kill()

    def abandon(self) -> None:
        """Expect nothing more of a master that was killed. It may die late: proc(5) has the uninterruptible state D."""
        self._abandoned = self.retiring = self.counts_known = True
        self.bad_message = ""

    def close(self) -> None:
        """Close the channel to a dead master."""
        self._channel.close()


def _printable(message: bytes) -> str:
    """Return a master's message fit for the operator's terminal."""
    return escape_unprintable(message.decode("utf-8", "backslashreplace"))
