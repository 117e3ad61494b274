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
from forkserver import control
from forkserver.errors import OperatorError, name_exit
from forkserver.settings import Settings
from forkserver.supervisor import journal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.supervisor.listener import Listeners

_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(forkserver.__file__)), "master", "__main__.py")
COMMAND: tuple[str, ...] = (sys.executable, "-I", "-S", "-E", _PROGRAM)
"""Isolated, without site-packages and environment: what the master imports, every child pays for."""


class Generation:
    """A master with the settings it was started with. ``channel`` is readable when it has said something or is gone."""

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
        self.missed_beats = 0
        self.complaint = ""
        self._acknowledged = False
        self._order = b""
        self._told_others: int | None = None
        self._full = False
        try:
            self.channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                packet = journal.decided(settings).encode()
                socket.send_fds(self.channel, [packet], [listener.fileno() for listener in listeners.values()])
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
        self.channel.setblocking(False)

    @property
    def pid(self) -> int:
        """The master's PID."""
        return self._process.pid

    def watch(self, poll: select.poll) -> None:
        """Have a poll set wait for what it says, and for room where there is something yet to be told."""
        poll.register(self.channel, select.POLLIN | (select.POLLOUT if self._full else 0))

    def listen(self) -> tuple[bool, set[str]]:
        """Take what the master said; returns whether that made it ready, and the peers whose count is another."""
        became_ready = False
        changed: set[str] = set()
        while packet := self._packet():
            if packet.startswith(control.REPORT):
                self.missed_beats = 0
                self.counted = self._acknowledged or not self.retiring
                self.children, self.served = map(int, packet.removeprefix(control.REPORT).split())
            elif packet.startswith(control.PEERS):
                peers = control.heard_peers(packet)
                control.note_peers(self.peers, peers)
                changed.update(peers)
            elif packet == control.DRAIN:
                self._acknowledged = True
            elif packet.startswith(control.READY):
                self.version = packet.removeprefix(control.READY).decode("ascii", "replace")
                self.ready = became_ready = True
            elif packet.startswith(control.FAILED):
                self.complaint = packet.removeprefix(control.FAILED).decode("utf-8", "surrogateescape")
        return became_ready, changed

    def _packet(self) -> bytes:
        try:
            return self.channel.recv(control.MAX_PACKET_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return b""

    def retire(self, heir: Generation) -> None:
        """Have it accept no more, but what waits at addresses that ``heir`` has not; let children finish, and end."""
        self.retiring = True
        self.counted = not self.ready  # before that it was not told to accept: it has nothing, and may answer late
        inherited = self.listeners.keys() <= heir.listeners.keys()
        self.tell(control.YIELD if inherited else control.DRAIN)

    def tell_others(self, children: int, connections: Callable[[str], int]) -> None:
        """Tell what other generations have, if that is news: connections of each peer, then how many children."""
        if not control.tell_peers(self.channel, self.owed, connections):
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
            self.channel.send(packet)
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
