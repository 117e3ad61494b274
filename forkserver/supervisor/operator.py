"""The operator's channel: ``forkserver reload`` asks, and learns what came of it. Runs in supervisor and front.

A SOCK_SEQPACKET socket in the abstract namespace (unix(7)), named after the supervisor's PID: nothing to create,
nothing to remove, nothing left behind. Who asks must be root or the server's own user, by SO_PEERCRED.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from forkserver.errors import OperatorError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

RELOAD = b"reload"
_DONE = b"done"
_FAILED = b"failed "
_MAX_PACKET_BYTES = 4096
_BACKLOG = 8
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def address(pid: int) -> bytes:
    """Where the supervisor ``pid`` listens."""
    return b"\0forkserver/%d" % pid


class OperatorSocket:
    """The supervisor's end. Never blocks, and never holds more than a few who ask."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.setblocking(False)
        self._listener.bind(address(os.getpid()))
        self._listener.listen(_BACKLOG)
        self._asking: list[socket.socket] = []

    def watch(self, poll: select.poll) -> None:
        """Add what operators may say to a poll set."""
        for each in (self._listener, *self._asking):
            poll.register(each, select.POLLIN)

    def listen(self) -> list[tuple[bytes, Callable[[OperatorError | None], None]]]:
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
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.setblocking(False)
        _, uid, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid in (0, os.geteuid()) and len(self._asking) < _BACKLOG:
            self._asking.append(connection)
        else:
            connection.close()


def ask(pid: int, word: bytes, timeout_s: float) -> None:
    """Have the supervisor ``pid`` do ``word``, and wait until it is done. Raises OperatorError with its complaint."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.settimeout(timeout_s)
        try:
            channel.connect(address(pid))
            channel.send(word)
            answer = channel.recv(_MAX_PACKET_BYTES)
        except ConnectionRefusedError as error:
            raise OperatorError(_why_nobody_listens(pid)) from error
        except (ConnectionResetError, BrokenPipeError):
            answer = b""  # it hung up, with or without having read what we sent
        except TimeoutError as error:
            raise OperatorError(f"the server, PID {pid}, gave no answer in {timeout_s:g} s; see its log") from error
        except OSError as error:
            raise OperatorError(f"cannot ask the server, PID {pid}: {error.strerror}; see its log") from error
    if answer.startswith(_FAILED):
        raise OperatorError(answer.removeprefix(_FAILED).decode("utf-8", "replace"))
    if answer != _DONE:
        raise OperatorError(f"the server, PID {pid}, did not answer; only root and its own user may ask")


def _why_nobody_listens(pid: int) -> str:
    """Abstract names are of one network namespace, unix(7); a service with ``PrivateNetwork=`` has its own."""
    try:
        apart = not os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net")
    except OSError:
        apart = False  # no such process, or only root may know
    if apart:
        return f"PID {pid} has a network of its own, out of reach from here; use `systemctl reload forkserver`"
    return f"no forkserver of this machine has the PID {pid}; name its supervisor's"


def _answer_to(channel: socket.socket) -> Callable[[OperatorError | None], None]:
    def answer(error: OperatorError | None) -> None:
        text = _FAILED + str(error).encode("utf-8", "surrogateescape") if error else _DONE
        with channel:
            try:
                channel.send(text[:_MAX_PACKET_BYTES])
            except OSError:
                pass  # it did not wait

    return answer
