"""One master process, from its start to its end. Runs in the supervisor.

The master is started as a program; nothing of it is imported here.
"""

from __future__ import annotations

import os
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
        """Whether ``children`` is news: not between the word to retire and the report that follows it."""
        self.version = ""
        self.children = 0
        self.served = 0
        self.missed_beats = 0
        self._told_others: int | None = None
        self.complaint = ""
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

    def listen(self) -> bool:
        """Take what the master said; returns whether that made it ready."""
        became_ready = False
        while packet := self._packet():
            if packet.startswith(control.REPORT):
                self.missed_beats = 0
                self.counted = True
                self.children, self.served = map(int, packet.removeprefix(control.REPORT).split())
            elif packet.startswith(control.READY):
                self.version = packet.removeprefix(control.READY).decode("ascii", "replace")
                self.ready = became_ready = True
            elif packet.startswith(control.FAILED):
                self.complaint = packet.removeprefix(control.FAILED).decode("utf-8", "surrogateescape")
        return became_ready

    def _packet(self) -> bytes:
        try:
            return self.channel.recv(control.MAX_PACKET_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return b""

    def retire(self) -> None:
        """Have it accept no more, let its children finish, and end."""
        self.retiring = True
        self.counted = False
        self.tell(control.DRAIN)

    def tell_others(self, count: int) -> None:
        """Tell how many children other generations have, if that is news."""
        if count != self._told_others:
            self._told_others = count
            self.tell(b"%s%d" % (control.OTHERS, count))

    def tell(self, word: bytes) -> None:
        """Send DRAIN or STOP; a master that is gone needs no telling."""
        try:
            self.channel.send(word)
        except OSError:
            pass

    def ended(self) -> str | None:
        """How the master ended, in words; None while it lives."""
        code = self._process.poll()
        return None if code is None else name_exit(code)

    def kill(self) -> None:
        """End it now, whatever state it is in."""
        self._process.kill()
