"""The connection of a session: send requests, receive events, within the time limits. Runs in the client."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

from forkserver.client.display import counted
from forkserver.client.outcome import Exit, Failure, Served, Word, violation
from forkserver.client.remote import banner
from forkserver.client.remote.dial import NoAnswer, connect, hang_up
from forkserver.protocol.framing import ReplyStream
from forkserver.protocol.messages import ProtocolError, Reply
from forkserver.protocol.native import decode_number, encode_request

if TYPE_CHECKING:
    import threading

    from forkserver.client.remote.address import Address
    from forkserver.client.remote.ratelimit import RateLimit
    from forkserver.protocol.messages import Entry, Request, Trailer

MIN_RATE = 128
"""Bytes a second that must arrive, on the average of ``timeout_s``. A server that sends less is given up."""


class Transport:
    """The socket of a session, with its buffer, time limits and rate limit, for one connection after the other.

    ``timeout_s`` bounds connecting, and every wait for a byte. ``interrupted`` ends a wait for the rate limit.

    Every method that sends or receives raises Failure. A failure on receiving closes the connection, except a timeout
    in which nothing came.
    """

    def __init__(self, timeout_s: float, rate_limit: RateLimit | None, interrupted: threading.Event) -> None:
        self.served: Served | None = None
        """The process that gave the last reply, over this connection or an earlier one.

        If there was a reply, the servers of the session do speak the protocol.
        """
        self.heard = False
        """Whether a byte was received since ``reply`` was called last, or ``reply`` has returned."""
        self._timeout_s = timeout_s
        self._rate_limit = rate_limit
        self._interrupted = interrupted
        self._socket: socket.socket | None = None
        self._address: Address
        self._stream = ReplyStream()
        self._unsent: list[bytes] = []
        self._first = b""
        """The first bytes of the connection, as long as no server has replied."""
        self._identity: tuple[str | None, str | None, Address] | None = None
        self._counted_from = 0.0
        self._counted_bytes = 0

    def connect(self, address: Address) -> None:
        """Connect to ``address``. The earlier connection must be closed. Raises Failure and NoAnswer."""
        self._socket = connect(address, self._timeout_s)
        if self._rate_limit is not None:
            # Keep the receive buffer small, so that bytes are taken steadily: the server drops a peer that pauses.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * self._rate_limit.block_bytes)
        self._address = address
        self._stream = ReplyStream()
        self._unsent.clear()
        self._first = b""

    @property
    def connected(self) -> bool:
        """Whether the connection is open."""
        return self._socket is not None

    @property
    def received_bytes(self) -> int:
        """How many bytes of the last content have come."""
        return self._stream.content_seen

    def close(self, *, in_order: bool = False) -> None:
        """Close the connection, with a reset unless ``in_order``."""
        if self._socket is not None:
            hang_up(self._socket, in_order=in_order)
            self._socket = None

    def shut_down(self) -> None:
        """End the connection from another thread: the thread that receives finds the end of the stream."""
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def request(self, request: Request) -> None:
        """Queue a request for the next ``flush``, and expect its answer."""
        self._stream.expect(request)
        self._unsent.append(encode_request(request))

    def flush(self) -> None:
        """Send the queued requests."""
        if self._socket is None or not self._unsent:
            return
        lines = b"".join(self._unsent)
        self._unsent.clear()
        try:
            self._socket.sendall(lines)
        except TimeoutError:
            raise self._silence() from None
        except OSError:
            pass  # The server hung up. The reason that it may have sent before can still be received.

    def reply(self) -> Reply:
        """Send the queued requests and return the next reply.

        Raises NoAnswer if the server hangs up before a further byte.
        """
        self.heard = False
        self.flush()
        try:
            reply = self._next_event()
            if not isinstance(reply, Reply):
                raise AssertionError("an answer begins with a reply")  # noqa: TRY004 - our bug, not the server's
            self._identify(reply)
        except ProtocolError as error:
            raise self.violation(error.message) from error
        self.heard = True
        return reply

    def receive(self) -> Reply | Entry | Trailer | memoryview:
        """Return the next message of the answer: a reply, an entry, a trailer, or content. Raises Failure.

        Content is a ``memoryview``, valid until the next call.
        """
        try:
            return self._next_event()
        except ProtocolError as error:
            raise self.violation(error.message) from error

    def next_whole(self) -> tuple[Reply, memoryview, Trailer] | None:
        """Return the next answer if all of it is in the buffer and it is a success; else None."""
        try:
            answer = self._stream.next_whole()
            if answer is not None:
                self._identify(answer[0])
        except ProtocolError as error:
            raise self.violation(error.message) from error
        return answer

    def next_entries(self) -> list[Entry]:
        """Return the entries of a listing that are in the buffer, perhaps none."""
        return self._stream.next_entries()

    def violation(self, complaint: str) -> Failure:
        """Close the connection; return the Failure for a server that breaks the protocol or speaks another protocol."""
        self.close()
        if self.served is not None:
            return violation(complaint, self.served)
        advice = banner.advice(self._first, self._address.port)
        why = f"{self._address} does not speak the forkserver protocol{advice}"
        return Failure(Exit.UNREACHABLE, Word.NOT_A_FORKSERVER, why)

    def _next_event(self) -> Reply | Entry | Trailer | memoryview:
        while (event := self._stream.next_event()) is None:
            room = self._stream.room()
            size_bytes = self._read(room)
            if not size_bytes:
                return self._end_of_file()
            self._watch_rate(size_bytes)
            self.heard = True
            if self.served is None:
                self._first += room[: min(size_bytes, banner.ENOUGH_BYTES)]
            self._stream.received(size_bytes)
        return event

    def _read(self, room: memoryview) -> int:
        """Return how many bytes came; 0: the stream ended, or a server that was killed sent a reset."""
        if self._socket is None:
            raise AssertionError("an answer is awaited without a connection")
        try:
            if self._rate_limit is None:
                return self._socket.recv_into(room)
            size_bytes = self._socket.recv_into(room[: self._rate_limit.block_bytes])
        except TimeoutError:
            raise self._silence() from None
        except OSError:
            return 0
        self._rate_limit.received(size_bytes, self._interrupted)
        return size_bytes

    def _watch_rate(self, size_bytes: int) -> None:
        now = time.monotonic()
        if not self.heard:
            self._counted_from, self._counted_bytes = now, 0
        self._counted_bytes += size_bytes
        seconds = now - self._counted_from
        if seconds >= self._timeout_s:
            if self._counted_bytes < MIN_RATE * seconds:
                self.close()
                why = f"{self._address} sent only {counted(self._counted_bytes, 'byte')} in {seconds:.0f} s"
                raise Failure(Exit.UNREACHABLE, Word.TIMEOUT, why, self.served)
            self._counted_from, self._counted_bytes = now, 0

    def _end_of_file(self) -> Reply | Entry | Trailer | memoryview:
        """Close the connection, and return the held-back content or the early trailer.

        Raises NoAnswer before the first byte, else Failure, or ProtocolError where no reply came before.
        """
        self.close()
        if not self.heard:
            raise NoAnswer
        try:
            self._stream.end_of_file()
            event = self._stream.next_event()
            if event is not None:
                return event
        except ProtocolError:
            if self.served is None:
                raise
        raise Failure(Exit.UNREACHABLE, Word.CONNECTION_LOST, "the connection was lost", self.served)

    def _identify(self, reply: Reply) -> None:
        """Note which process answers. Mostly this is the process that answered before."""
        identity = reply.fields.get("pid"), reply.fields.get("start"), self._address
        if identity != self._identity:
            self.served = Served(decode_number(identity[0] or ""), identity[1] or "", str(self._address))
            self._identity = identity

    def _silence(self) -> Failure:
        why = f"{self._address} sent nothing for {self._timeout_s:g} s"
        if self.served is None:
            why += ("" if self._first else ": perhaps it is full") + banner.advice(self._first, self._address.port)
        return Failure(Exit.UNREACHABLE, Word.TIMEOUT, why, self.served if self.heard else None)
