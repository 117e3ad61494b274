"""What systemd and a service say to each other: sd_listen_fds(3), sd_notify(3). Runs in the supervisor."""

from __future__ import annotations

import array
import collections
import os
import socket
import stat
import time

from forkserver.errors import OperatorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLE_PREFIX = "table-"
"""How the names of the tables begin that the manager keeps."""
_FIRST_FD = 3
_STATUS_PAUSE_S = 1.0
_AGAIN_S = 1.0
_MAX_WAITING = 16
"""Words that a stuck manager has not taken. Of more the last ones tell it all: what was is of no interest."""


def passed_descriptors() -> tuple[list[socket.socket], list[tuple[str, int]]]:
    """Return what systemd passed to this very process: sockets, and name and descriptor of an earlier one's tables.

    A table is a regular file whose name begins with ``TABLE_PREFIX``: only a descriptor that was stored is both. Takes
    the variables out of the environment: a master must not think that they are meant for it. Raises OperatorError for
    every other descriptor that is no socket.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    sockets: list[socket.socket] = []
    tables: list[tuple[str, int]] = []
    if pid != str(os.getpid()) or not count.isdecimal():
        return sockets, tables
    for number in range(int(count)):
        fd = _FIRST_FD + number
        name = names[number] if number < len(names) else ""
        try:
            os.set_inheritable(fd, False)
            if name.startswith(TABLE_PREFIX) and stat.S_ISREG(os.fstat(fd).st_mode):
                tables.append((name, fd))
            else:
                sockets.append(socket.socket(fileno=fd))
        except OSError as error:
            raise OperatorError(f"LISTEN_FDS: descriptor {fd} is no socket ({error.strerror}); unset it") from error
    return sockets, tables


class Notifier:
    """Tells the service manager how the service is; says nothing where there is none. No call fails, and none waits.

    Its making takes the variables out of the environment, as ``passed_descriptors`` does. ``stored`` are the names of
    the descriptors that the manager has kept of an earlier process. ``now`` is always the caller's monotonic clock, in
    seconds. ``due`` is the moment when ``keep_time`` must be called, None: never.
    """

    def __init__(self, now: float, stored: Iterable[str] = ()) -> None:
        self._stored = set(stored)
        name = os.environ.pop("NOTIFY_SOCKET", "")
        usec = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        # An @ stands for the NUL byte that begins an abstract name, unix(7).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._heard = name.startswith(("/", "@"))
        watched = self._heard and usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self._beat_s = int(usec) / 2_000_000 if watched else None
        self._beat_at = now
        self._told = ""
        self._wanted = ""
        self._status_at = now
        self._waiting: collections.deque[str] = collections.deque(maxlen=_MAX_WAITING)
        self._stopping = False

    @property
    def due(self) -> float | None:
        """See the class."""
        moments = [self._beat_at] if self._beat_s is not None else []
        if self._wanted != self._told:
            moments.append(self._status_at)
        return min(moments, default=None)

    def keep_time(self, now: float) -> None:
        """Send what is due: words that wait, the watchdog's sign of life, a status that was held back."""
        self._send_waiting()
        if self._beat_s is not None and now >= self._beat_at:
            self._beat_at = now + (self._beat_s if self._send("WATCHDOG=1") else min(self._beat_s, _AGAIN_S))
        if self._wanted != self._told and now >= self._status_at:
            self._status_at = now + _STATUS_PAUSE_S
            if self._send(f"STATUS={self._wanted}"):
                self._told = self._wanted

    def ready(self) -> None:
        """The service serves: for the first time, or again after ``reloading``."""
        if not self._stopping:
            self._say("READY=1")

    def status(self, text: str, now: float, *, at_once: bool = False) -> None:
        """Tell one line for people. Sent if it says something new, at most once a second unless ``at_once``.

        The last line is always sent.
        """
        if self._heard:
            if at_once:
                self._status_at = now
            # A line feed would begin another assignment, and the manager takes no other bytes than UTF-8.
            line = text.encode("utf-8", "backslashreplace").decode("utf-8")
            self._wanted = "".join([char if char.isprintable() else "?" for char in line])
            self.keep_time(now)

    def reloading(self) -> None:
        """The settings are being read again; ``ready`` ends it."""
        # The manager compares it with its own CLOCK_MONOTONIC, so it is not the caller's idea of now.
        if not self._stopping:
            self._say(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service drains, then ends: it will be neither ready nor reloading any more."""
        self._stopping = True
        self._say("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """What goes on, be it the start or the stop, may take this long from now, whatever the unit file says."""
        self._say(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def store(self, descriptors: dict[str, int]) -> None:
        """Have the manager keep these descriptors by name, for the next process of the service, and forget all others.

        To be called again and again: a manager that takes nothing just now is told the next time.
        """
        for name in self._stored - descriptors.keys():
            if self._send(f"FDSTOREREMOVE=1\nFDNAME={name}"):
                self._stored.remove(name)
        for name in descriptors.keys() - self._stored:
            if self._send(f"FDSTORE=1\nFDNAME={name}", [descriptors[name]]):
                self._stored.add(name)

    def _say(self, message: str) -> None:
        """Send what must not be lost, now or as soon as the manager takes it, one after the other."""
        self._waiting.append(message)
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and self._send(self._waiting[0]):
            self._waiting.popleft()

    def _send(self, message: str, fds: Sequence[int] = ()) -> bool:
        """False: the manager takes nothing just now."""
        if not self._heard:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                attached = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                manager.sendmsg([message.encode()], attached, socket.MSG_DONTWAIT, self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass  # nobody there: that is no reason to stop serving
        return True
