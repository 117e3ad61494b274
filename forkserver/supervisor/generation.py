"""One master process, from its start to its end. Runs in the supervisor.

The master is started as a program; nothing of it is imported here.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

import forkserver
from forkserver.errors import OperatorError, name_exit
from forkserver.ipc import control
from forkserver.settings import Settings
from forkserver.supervisor import journal
from forkserver.supervisor.systemd import TABLE_PREFIX
from forkserver.supervisor.tables import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.supervisor.listener import Listeners

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(forkserver.__file__)), "master", "__main__.py")
COMMAND: tuple[str, ...] = (sys.executable, "-I", "-S", "-E", _PROGRAM)
"""Isolated, without site-packages and environment: what the master imports, every child pays for."""
MAX_MISSED_BEATS = 5
"""Heartbeats, each ``control.HEARTBEAT_S`` of the supervisor's own turning, after which a master counts as stuck."""
MAX_STARTING_BEATS = 30
"""The same before it is ready: a hundred times what a start takes, for slow disks and machines under load, and half of
what `forkserver reload` waits."""
_MAX_PACKETS_A_TURN = 64
_MAX_COMPLAINT_BYTES = 2000
_MAX_NONSENSE_BYTES = 100


class Generation:
    """A master with the settings it was started with."""

    def __init__(self, number: int, settings: Settings, listeners: Listeners) -> None:
        """Start the master. Raises OperatorError where no process can be made."""
        self.number = number
        self.settings = settings
        self.listeners = listeners
        self.ready = False
        self.retiring = False
        self.counted = True
        """Whether ``children`` and ``peers`` are as of now: not between the word to retire and what it answers."""
        self.version = ""
        self.children = 0
        self.served = 0
        self.peers: dict[str, int] = {}
        """Its connections of each peer, once it retires."""
        self.owed: set[str] = set()
        """Peers of whom it must be told how many connections others have now."""
        self.table: Table | None = None
        """What its children do, None where that is not known; the table is whose this generation's end is."""
        self.log_destination = journal.destination()
        """What this master and its children write their log to."""
        self.complaint = ""
        self.nonsense = ""
        """What it said that no master says; it is heard no more."""
        self._missed_beats = 0
        self._dismissed = False
        self._acknowledged = False
        self._order = b""
        self._told_others: int | None = None
        self._full = False
        try:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                packet = journal.decided(settings).encode()
                socket.send_fds(self._channel, [packet], [listener.fileno() for listener in listeners.values()])
                self._process = subprocess.Popen(  # noqa: S603 - our own program, with our own interpreter
                    [*COMMAND, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    cwd="/",
                    # A terminal's Ctrl-C is for the supervisor, which then drains; and orphans are known by it.
                    start_new_session=True,
                )
        except OSError as error:
            raise OperatorError(f"cannot start a master with {COMMAND[0]}: {error.strerror}") from error
        self._channel.setblocking(False)

    @property
    def pid(self) -> int:
        """The master's PID."""
        return self._process.pid

    def watch(self, poll: select.poll) -> None:
        """Have a poll set wait for what it says, and for room where there is something yet to be told."""
        if not self._dismissed:
            poll.register(self._channel, select.POLLIN | (select.POLLOUT if self._full else 0))

    def listen(self) -> tuple[bool, set[str]]:
        """Take what the master said; returns whether that made it ready, and the peers whose count is another.

        It is not trusted: of one that talks without end some is left for the next turn, and see ``nonsense``.
        """
        was_ready = self.ready
        changed: set[str] = set()
        for _ in range(_MAX_PACKETS_A_TURN):
            packet = b"" if self._dismissed or self.nonsense else self._packet()
            if not packet:
                break
            try:
                self._understand(packet, changed)
            except ValueError:
                self.nonsense = _printable(packet[:_MAX_NONSENSE_BYTES])
        return self.ready and not was_ready, changed

    def _understand(self, packet: bytes, changed: set[str]) -> None:
        if packet.startswith(control.REPORT):
            self._missed_beats = 0
            self.counted = self._acknowledged or not self.retiring
            self.children, served = control.parse_report(packet)
            self.served = max(self.served, served)
        elif packet.startswith(control.PEERS):
            peers = control.parse_peers(packet)
            control.merge_peers(self.peers, peers)
            changed.update(peers)
            if len(self.peers) > control.MAX_PEERS:
                raise ValueError("it cannot have as many")
        elif packet == control.DRAIN:
            self._acknowledged = True
        elif packet.startswith(control.READY):
            self._missed_beats = 0
            self.version = packet.removeprefix(control.READY).decode("ascii", "replace")
            self.ready = True
        elif packet.startswith(control.FAILED):
            self.complaint = _printable(packet.removeprefix(control.FAILED)[:_MAX_COMPLAINT_BYTES])

    def _packet(self) -> bytes:
        try:
            packet, fds, _, _ = socket.recv_fds(self._channel, control.MAX_PACKET_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, ConnectionResetError):
            return b""
        for fd in fds:
            if packet == control.TABLE and not self.table:
                self._take_table(fd)
            else:
                os.close(fd)  # sent by no master of ours
        return packet

    def _take_table(self, fd: int) -> None:
        """Own the shared table, if ``fd`` is one, and of a format that this version knows."""
        try:
            table = Table(fd, f"{TABLE_PREFIX}{os.getpid()}-{self.number}")
        except ValueError:
            os.close(fd)
        else:
            self.table = table

    def beat(self) -> str:
        """To be called every ``control.HEARTBEAT_S``; why it must be replaced, empty if it need not."""
        self._missed_beats += 1
        if self._dismissed or self._missed_beats <= (MAX_MISSED_BEATS if self.ready else MAX_STARTING_BEATS):
            return ""
        if self.ready:
            return "its loop does not turn; it is replaced"
        return f"it was not ready after {MAX_STARTING_BEATS * control.HEARTBEAT_S:.0f} s; see whether its root answers"

    def retire(self, heir: Generation) -> None:
        """Have it accept no more, but what waits at addresses that ``heir`` has not; let children finish, and end."""
        self.retiring = True
        self.counted = not self.ready  # before that it was not told to accept: it has nothing, and may answer late
        inherited = self.listeners.keys() <= heir.listeners.keys()
        self.tell(control.YIELD if inherited else control.DRAIN)

    def tell_others(self, children: int, connections: Callable[[str], int]) -> None:
        """Tell what other generations have, if that is news: connections of each peer, then how many children."""
        if not control.send_peers(self._channel, self.owed, connections):
            self._full = True
        elif children != self._told_others and self._send(b"%s%d" % (control.OTHERS, children)):
            self._told_others = children

    def tell(self, word: bytes) -> None:
        """Send DRAIN, YIELD or STOP, at the latest when ``flush`` finds room for it."""
        self._order = word
        self.flush()

    def flush(self) -> None:
        """Send the order that is due, if any."""
        self._full = False
        if self._order and self._send(self._order):
            self._order = b""

    def _send(self, packet: bytes) -> bool:
        try:
            self._channel.send(packet)
        except ConnectionError:
            pass  # it is gone, and needs no telling
        except OSError:
            self._full = True
        return not self._full

    def ended(self) -> str | None:
        """How the master ended, in words; None while it lives."""
        code = self._process.poll()
        return None if code is None else name_exit(code)

    def kill(self) -> None:
        """End it now, whatever state it is in."""
        self._process.kill()

    def dismiss(self) -> None:
        """It was killed: count on nothing from it, not even that it dies soon, for proc(5) has a state D."""
        self._dismissed = self.retiring = self.counted = True
        self.nonsense = ""

    def close(self) -> None:
        """It is dead, and will say nothing any more."""
        self._channel.close()


def _printable(words: bytes) -> str:
    """What a master said, for the operator's terminal."""
    text = words.decode("utf-8", "backslashreplace")
    return "".join([char if char.isprintable() else ascii(char)[1:-1] for char in text])
