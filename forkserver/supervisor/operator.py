"""The operator's channel: ``forkserver reload``, ``reopen`` and ``status`` ask here. Runs in supervisor and front.

A question is one word, ``reload``, ``reopen`` or ``status``. The answer is ``done``, or ``failed`` and a complaint. A
text may follow ``done``: a warning about a reload that went well, or the status.

A SOCK_SEQPACKET socket in the abstract namespace (unix(7)), named after the supervisor's PID: nothing to create,
nothing to remove, nothing left behind. Who asks must be root or the server's own user, by SO_PEERCRED. Anybody may take
such a name before the server does: then it has no channel, and who asks notices, by SO_PEERCRED too.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from forkserver.errors import OperatorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Answer(Protocol):
        """Answer one question: with a complaint, or with what there is to say (``""``: nothing)."""

        def __call__(self, error: OperatorError | None, text: str = "") -> None:
            """Send the answer; an operator who no longer waits for it is no error."""


RELOAD = b"reload"
REOPEN = b"reopen"
STATUS = b"status"
_DONE = b"done"
_FAILED = b"failed "
_MAX_PACKET_BYTES = 4096
_MAX_ASKING = 8
_BACKLOG = 128
"""Anybody may connect; while it is full, an operator waits with the strangers. Each turn takes as many."""
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def address(pid: int) -> bytes:
    """Where the supervisor ``pid`` listens."""
    return b"\0forkserver/%d" % pid


class OperatorSocket:
    """The supervisor's end. Never blocks, and never holds more than a few who ask.

    ``complaint`` is why nobody can ask, and empty if they can: that is no reason not to serve.
    """

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._asking: list[socket.socket] = []
        self.complaint = ""
        try:
            self._listener.bind(address(os.getpid()))
            self._listener.listen(_BACKLOG)
        except OSError as error:
            self.complaint = (
                f"@forkserver/{os.getpid()}: cannot listen there: {error.strerror}; "
                "`forkserver reload` does not work, SIGHUP does"
            )

    def watch(self, poll: select.poll) -> None:
        """Add what operators may say to a poll set."""
        if not self.complaint:
            for each in (self._listener, *self._asking):
                poll.register(each, select.POLLIN)

    def listen(self) -> list[tuple[bytes, Answer]]:
        """What was asked since the last call, each with the function that answers it."""
        self._accept()
        asked = []
        for each in list(self._asking):
            try:
                word = each.recv(_MAX_PACKET_BYTES)
            except BlockingIOError:
                continue
            except OSError:
                word = b""
            self._asking.remove(each)
            if word:
                asked.append((word, _answer_to(each)))
            else:
                each.close()
        return asked

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
            if len(self._asking) == _MAX_ASKING:
                self._asking.pop(0).close()  # it has asked nothing in all this time
            self._asking.append(connection)


def _peer(connection: socket.socket) -> tuple[int, int]:
    """PID and user of who connected, or of who listens: SO_PEERCRED, unix(7)."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _ = _CREDENTIALS.unpack(raw)
    return pid, uid


def ask(pid: int, word: bytes, timeout_s: float) -> str:
    """Have the supervisor ``pid`` do ``word``, and wait until it is done; return what it has to say, mostly nothing.

    Raises OperatorError with the supervisor's complaint.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        # Only the kernel's own timeout has connect(2) wait where the backlog is full; Python's fails with EAGAIN.
        timeval = struct.pack("ll", *divmod(int(timeout_s * 1_000_000), 1_000_000))
        channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        try:
            channel.connect(address(pid))
            _check_who_listens(channel, pid)
            channel.settimeout(timeout_s)
            channel.send(word)
            answer = channel.recv(_MAX_PACKET_BYTES)
        except ConnectionRefusedError as error:
            raise OperatorError(_why_nobody_listens(pid)) from error
        except (ConnectionResetError, BrokenPipeError):
            answer = b""  # it hung up, with or without having read what we sent
        except (TimeoutError, BlockingIOError) as error:
            raise OperatorError(f"the server, PID {pid}, gave no answer in {timeout_s:g} s; see its log") from error
        except OSError as error:
            raise OperatorError(f"cannot ask the server, PID {pid}: {error.strerror}; see its log") from error
    if answer.startswith(_FAILED):
        raise OperatorError(answer.removeprefix(_FAILED).decode("utf-8", "replace"))
    done, _, text = answer.partition(b" ")
    if done != _DONE:
        raise OperatorError(f"the server, PID {pid}, did not answer; only root and its own user may ask")
    return text.decode("utf-8", "replace")


def _check_who_listens(channel: socket.socket, pid: int) -> None:
    """Raises OperatorError where another process has taken the name: its answer would be a lie."""
    listens, uid = _peer(channel)
    # The user is looked at too: a PID can be had again, by who waits for it long enough.
    if listens != pid or uid not in (0, os.geteuid(), _user_of(pid)):
        raise OperatorError(
            f"PID {pid} cannot be asked: what answers in its place is PID {listens} of user {uid}; "
            f"use `kill -HUP {pid}`"
        )


def _user_of(pid: int) -> int | None:
    """The effective user of a process, proc_pid_status(5): who owns its directory may be another."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[2]) for line in file if line.startswith(b"Uid:"))
    except OSError:
        return None


def _why_nobody_listens(pid: int) -> str:
    """Abstract names are of one network namespace, unix(7); a service with ``PrivateNetwork=`` has its own."""
    try:
        apart = not os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net")
    except OSError:
        apart = False  # no such process, or only root may know
    if apart:
        return f"PID {pid} has a network of its own, out of reach from here; use `systemctl reload forkserver`"
    return f"no forkserver of this machine has the PID {pid}; name its supervisor's"


def _answer_to(channel: socket.socket) -> Answer:
    def answer(error: OperatorError | None, text: str = "") -> None:
        if error:
            packet = _FAILED + str(error).encode("utf-8", "surrogateescape")
        else:
            packet = _DONE + (b" " + text.encode("utf-8", "surrogateescape") if text else b"")
        with channel:
            try:
                channel.send(packet[:_MAX_PACKET_BYTES])
            except OSError:
                pass  # it did not wait

    return answer
