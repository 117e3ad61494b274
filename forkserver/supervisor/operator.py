"""The operator's channel, for ``forkserver reload``, ``reopen`` and ``status``.

Runs in the operator's command and in the supervisor.

A request is one word: ``reload``, ``reopen`` or ``status``. The answer is ``done``, or ``failed`` and a complaint. A
text may follow ``done``: a warning about a reload that succeeded, or the status.

The channel is a SOCK_SEQPACKET socket in the abstract namespace (unix(7)), named after the supervisor's PID, so no file
is created or removed. SO_PEERCRED shows who connects: only root and the server's own user may ask. Any process may take
the name before the server does. Then the server has no channel, and ``ask`` notices by SO_PEERCRED, too.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
from collections.abc import Callable

from forkserver.errors import OperatorError

Answer = Callable[[OperatorError | str], None]
"""Answers one request: with a text, which may be empty, or with an error if the request has failed."""

RELOAD = b"reload"
REOPEN = b"reopen"
STATUS = b"status"
_DONE = b"done"
_FAILED = b"failed"
_MAX_PACKET_BYTES = 4096
_MAX_CONNECTIONS = 8
_BACKLOG = 128
"""Any process may connect, and a full backlog makes operators wait. So each turn of the loop empties the backlog."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def address(pid: int) -> bytes:
    """Return the address at which the supervisor ``pid`` listens."""
    return b"\0forkserver/%d" % pid


class OperatorSocket:
    """The supervisor's end of the channel. Never blocks, and keeps only a few connections.

    ``complaint`` says why there is no channel, and is empty if there is one. The server serves without one, too.
    """

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._connections: list[socket.socket] = []
        self.complaint = ""
        try:
            self._listener.bind(address(os.getpid()))
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self.complaint = (
                f"@forkserver/{os.getpid()}: cannot listen there: {error.strerror}; "
                "`forkserver reload` does not work, SIGHUP does"
            )

    def register(self, poll: select.poll) -> None:
        """Add the channel and its connections to a poll set."""
        if not self.complaint:
            for each in (self._listener, *self._connections):
                poll.register(each, select.POLLIN)

    def read_requests(self) -> list[tuple[bytes, Answer]]:
        """Return the requests that came since the last call, each with the function that answers it."""
        self._accept()
        requests = []
        for each in list(self._connections):
            try:
                word = each.recv(_MAX_PACKET_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                word = b""
            self._connections.remove(each)
            if word:
                requests.append((word, _answer_to(each)))
            else:
                each.close()
        return requests

    def _accept(self) -> None:
        for _ in range(_BACKLOG):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            if _peer(connection)[1] not in (0, os.geteuid()):
                connection.close()
                continue
            if len(self._connections) == _MAX_CONNECTIONS:
                self._connections.pop(0).close()  # the oldest, which has sent no request for the longest time
            self._connections.append(connection)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Return PID and user of the process at the other end: SO_PEERCRED, unix(7)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def ask(pid: int, word: bytes, timeout_s: float) -> str:
    """Send the request ``word`` to the supervisor ``pid``, wait until it is done, and return the answer's text.

    Raises OperatorError with the supervisor's complaint, or if there is no answer within ``timeout_s``.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        # With the kernel's timeout connect(2) waits while the backlog is full. With Python's it would fail with EAGAIN.
        timeval = struct.pack("ll", *divmod(int(timeout_s * 1_000_000), 1_000_000))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        try:
            channel.connect(address(pid))
            _check_listener(channel, pid)
            channel.settimeout(timeout_s)
            channel.send(word)
            answer = channel.recv(_MAX_PACKET_BYTES)
        except ConnectionRefusedError as error:
            raise OperatorError(_explain_refusal(pid)) from error
        except (ConnectionResetError, BrokenPipeError):
            answer = b""  # the server closed the connection, before or after it read the request
        except (TimeoutError, BlockingIOError) as error:
            raise OperatorError(f"the server, PID {pid}, gave no answer in {timeout_s:g} s; see its log") from error
        except OSError as error:
            raise OperatorError(f"cannot ask the server, PID {pid}: {error.strerror}; see its log") from error
    word, _, data = answer.partition(b" ")
    text = data.decode("utf-8", "replace")
    if word == _FAILED:
        raise OperatorError(text)
    if word != _DONE:
        raise OperatorError(f"the server, PID {pid}, did not answer; only root and its own user may ask")
    return text


def _check_listener(channel: socket.socket, pid: int) -> None:
    """Raise OperatorError if another process has taken the name of the supervisor ``pid``."""
    listener, uid = _peer(channel)
    # Check the user, too: another user's process may have got the PID of a dead supervisor.
    if listener != pid or uid not in (0, os.geteuid(), _user_of(pid)):
        raise OperatorError(
            f"PID {pid} cannot be asked: what answers in its place is PID {listener} of user {uid}; "
            f"use `kill -HUP {pid}`"
        )


def _user_of(pid: int) -> int | None:
    """Return the effective user of a process, proc_pid_status(5). The owner of /proc/PID may be another user."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[2]) for line in file if line.startswith(b"Uid:"))
    except OSError:
        return None


def _explain_refusal(pid: int) -> str:
    """Say why the supervisor ``pid`` cannot be reached.

    Abstract names belong to a network namespace, unix(7), and a service with ``PrivateNetwork=`` has its own.
    """
    try:
        apart = not os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net")
    except OSError:
        apart = False  # there is no such process, or only root may look
    if apart:
        return f"PID {pid} has a network of its own, out of reach from here; use `systemctl reload forkserver`"
    return f"no forkserver of this machine has the PID {pid}; name its supervisor's"


def _answer_to(channel: socket.socket) -> Answer:
    def answer(result: OperatorError | str) -> None:
        text = str(result).encode("utf-8", "surrogateescape")
        word = _FAILED if isinstance(result, OperatorError) else _DONE
        packet = word + b" " + text if text else word
        with channel, contextlib.suppress(OSError):  # the operator may not have waited
            channel.send(packet[:_MAX_PACKET_BYTES])

    return answer
