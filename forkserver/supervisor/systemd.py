"""Talk to systemd as a service does: sd_listen_fds(3), sd_notify(3). Runs in the supervisor."""

from __future__ import annotations

import array
import collections
import os
import socket
import time
from collections.abc import Iterable, Sequence

from forkserver.errors import OperatorError

TABLE_PREFIX = "table-"
"""Prefix of the names under which the manager stores the shared tables."""
_FIRST_FD = 3
_STATUS_INTERVAL_S = 1.0
_RETRY_S = 1.0
_MAX_QUEUED = 16
"""Messages that wait for a stuck manager. If there are more, the oldest are dropped: only the last state matters."""


def passed_descriptors() -> tuple[list[socket.socket], list[tuple[str, int]]]:
    """Return what systemd passed to this process: sockets, and name and descriptor of an earlier process's tables.

    A table is a regular file whose name begins with ``TABLE_PREFIX``, which only a stored descriptor can be. The
    variables are removed from the environment, so that no master takes them for its own. Raises OperatorError for any
    other descriptor that is no socket.
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
            if name.startswith(TABLE_PREFIX) and os.path.isfile(fd):
                tables.append((name, fd))
            else:
                sockets.append(socket.socket(fileno=fd))
        except OSError as error:
            raise OperatorError(
                f"LISTEN_FDS: descriptor {fd} is no socket ({error.strerror}); unset LISTEN_FDS"
            ) from error
    return sockets, tables


class Notifier:
    """Tells the service manager about the service; does nothing where there is no manager. No call fails or blocks.

    The constructor removes the variables from the environment, as ``passed_descriptors`` does. ``stored`` are the names
    of the descriptors that the manager has from an earlier process. ``now`` is always the caller's monotonic clock, in
    seconds.
    """

    def __init__(self, now: float, stored: Iterable[str] = ()) -> None:
        self._stored = set(stored)
        name = os.environ.pop("NOTIFY_SOCKET", "")
        usec = os.environ.pop("WATCHDOG_USEC", "")
        pid = os.environ.pop("WATCHDOG_PID", "")
        # An @ stands for the NUL byte that begins an abstract name, unix(7).
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._enabled = name.startswith(("/", "@"))
        watched = self._enabled and usec.isdecimal() and int(usec) > 0 and pid in ("", str(os.getpid()))
        self._watchdog_s = int(usec) / 2_000_000 if watched else None
        self._watchdog_due = now
        self._sent_status = ""
        self._status = ""
        self._status_due = now
        self._queue: collections.deque[str] = collections.deque(maxlen=_MAX_QUEUED)
        self._stopping = False

    @property
    def due(self) -> float | None:
        """The moment at which ``run_timers`` must be called, None: never."""
        moments = [self._watchdog_due] if self._watchdog_s is not None else []
        if self._status != self._sent_status:
            moments.append(self._status_due)
        return min(moments, default=None)

    def run_timers(self, now: float) -> None:
        """Send what is due: queued messages, the watchdog's keep-alive, a status that was held back."""
        self._send_queued()
        if self._watchdog_s is not None and now >= self._watchdog_due:
            sent = self._send("WATCHDOG=1")
            self._watchdog_due = now + (self._watchdog_s if sent else min(self._watchdog_s, _RETRY_S))
        if self._status != self._sent_status and now >= self._status_due:
            self._status_due = now + _STATUS_INTERVAL_S
            if self._send(f"STATUS={self._status}"):
                self._sent_status = self._status

    def ready(self) -> None:
        """Tell that the service serves: for the first time, or again after ``reloading``."""
        if not self._stopping:
            self._enqueue("READY=1")

    def status(self, text: str, now: float, *, at_once: bool = False) -> None:
        """Set the status, one line for people. A new status is sent at most once a second, unless ``at_once``.

        The last status is always sent.
        """
        if self._enabled:
            if at_once:
                self._status_due = now
            # A line feed would begin another assignment, and the manager takes no other bytes than UTF-8.
            line = text.encode("utf-8", "backslashreplace").decode("utf-8")
            self._status = "".join([char if char.isprintable() else "?" for char in line])
            self.run_timers(now)

    def reloading(self) -> None:
        """Tell that the settings are being read again; ``ready`` ends the reload."""
        # The manager compares this time with its own CLOCK_MONOTONIC, so it must be the real time, not ``now``.
        if not self._stopping:
            self._enqueue(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Tell that the service drains, then ends. Later calls of ``ready`` and ``reloading`` do nothing."""
        self._stopping = True
        self._enqueue("STOPPING=1")

    def extend_timeout(self, seconds: float) -> None:
        """Tell that the start or stop under way may take ``seconds`` from now, whatever the unit file says."""
        self._enqueue(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def store(self, descriptors: dict[str, int]) -> None:
        """Have the manager store these descriptors by name, for the next process of the service, and forget all others.

        Call this in every turn of the loop: what a stuck manager does not take is sent with the next call.
        """
        for name in self._stored - descriptors.keys():
            if self._send(f"FDSTOREREMOVE=1\nFDNAME={name}"):
                self._stored.remove(name)
        for name in descriptors.keys() - self._stored:
            if self._send(f"FDSTORE=1\nFDNAME={name}", [descriptors[name]]):
                self._stored.add(name)

    def _enqueue(self, message: str) -> None:
        """Send a message that must not be lost, in order: now, or as soon as the manager takes it."""
        self._queue.append(message)
        self._send_queued()

    def _send_queued(self) -> None:
        while self._queue and self._send(self._queue[0]):
            self._queue.popleft()

    def _send(self, message: str, fds: Sequence[int] = ()) -> bool:
        """Send a message without blocking; return False if the manager's queue is full."""
        if not self._enabled:
            return True
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                attached = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
                manager.sendmsg([message.encode()], attached, socket.MSG_DONTWAIT, self._address)
        except BlockingIOError:
            return False
        except OSError:
            pass  # no manager is there, which is no reason to stop serving
        return True
