"""A session with one server: connect, ask, receive, and ask again while the server is busy. Runs at the user's."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from forkserver.client.display import counted
from forkserver.client.events import RetryEnded, Retrying
from forkserver.client.outcome import Exit, Failure, Served, refusal, violation
from forkserver.client.remote import banner
from forkserver.client.remote.dial import NoAnswer, connect, hang_up
from forkserver.client.remote.patience import turns
from forkserver.protocol.framing import ReplyStream
from forkserver.protocol.messages import Entry, ProtocolError, Reply, Request, Status, Trailer
from forkserver.protocol.native import decode_number, encode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from forkserver.client.events import Event
    from forkserver.client.remote.address import Address
    from forkserver.client.remote.ratelimit import RateLimit

WINDOW = 64
"""Requests on the way: enough to hide the way there and back, few enough to do again after a lost connection."""
MIN_RATE = 128
"""Bytes a second that must come of an answer, on the average of ``timeout_s``: a server that trickles is given up."""
_numbers = itertools.count()
_BUSY = frozenset({Status.TOO_MANY_CONNECTIONS, Status.BUSY})
_Piece = TypeVar("_Piece", memoryview, Entry)


class Session:
    """All requests of one run to one server go through here, over one connection while it lasts.

    Of several ``addresses`` one is asked: the first, and, where it is not to be had, the next. ``timeout_s`` bounds
    connecting, and every time without a byte, or with hardly any. ``retries`` is how often, one time after the other,
    servers that are busy or do not answer are asked again. ``throttle`` bounds how fast is received. ``on_event`` is
    called with ``Retrying`` before a request is made again, and then with ``RetryEnded``, perhaps by another thread.
    """

    def __init__(
        self,
        *addresses: Address,
        timeout_s: float,
        retries: int,
        on_event: Callable[[Event], None] | None = None,
        throttle: RateLimit | None = None,
    ) -> None:
        self._addresses = deque(addresses)
        self._timeout_s = timeout_s
        self._retries = retries
        self.number = next(_numbers)
        self._tell = on_event or (lambda _event: None)
        self._retrying = False
        self._throttle = throttle
        self._socket: socket.socket | None = None
        self._stream = ReplyStream()
        self._ahead: deque[Request] = deque()
        self._unsent: list[bytes] = []
        self._mid_answer = False
        self._heard = False
        self._counted_from = 0.0
        self._counted_bytes = 0
        self._speaks = False
        self._first = b""
        self.served: Served | None = None
        """Who gave the last answer."""
        self._identified: tuple[str | None, str | None] | None = None
        self._waits: Iterator[tuple[int, float]] | None = None
        self._failing_since = 0.0
        self._unasked = 0
        """Servers that were not asked since something last succeeded."""
        self._interrupted = threading.Event()

    @property
    def address(self) -> Address:
        """Which server is asked now."""
        return self._addresses[0]

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._socket is not None

    def close(self) -> None:
        """Hang up. What was requested and not answered is requested again over the next connection."""
        if self._socket is not None:
            hang_up(self._socket, in_order=not (self._ahead or self._mid_answer))
            self._socket = None

    def interrupt(self) -> None:
        """For another thread: the one that waits for this server finds the connection lost, and makes no other."""
        self._interrupted.set()
        self._end_retries()
        if (connected := self._socket) is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def resume(self) -> None:
        """It was interrupted, and may be used again."""
        self._interrupted.clear()

    def abandon(self) -> None:
        """Forget what was requested and not answered."""
        if self._ahead or self._mid_answer:
            self.close()
        self._ahead.clear()

    @property
    def received_bytes(self) -> int:
        """How much of the last content has come."""
        return self._stream.content_seen

    def ask(self, request: Request) -> Reply:
        """Send a request and give the answer's first line; after a 200 with content call ``receive`` for the rest.

        An answer left unfinished before costs a new connection. Raises Failure.
        """
        self.renew()
        return self.ask_on(request)

    def ask_on(self, request: Request) -> Reply:
        """As ``ask``, but retries are not counted anew."""
        self.request(request)
        try:
            return self.reply()
        except Failure:
            self.abandon()
            raise

    def request(self, request: Request) -> None:
        """Request ahead: ``reply`` gives the answers in this order. It is sent by the next ``flush`` or ``reply``."""
        self._ahead.append(request)
        if self._socket is not None:
            self._stand_by(request)

    def flush(self) -> None:
        """Send what was requested, if there is a connection. Raises Failure."""
        if self._socket is not None and self._unsent:
            line = b"".join(self._unsent)
            self._unsent.clear()
            try:
                self._socket.sendall(line)
            except TimeoutError:
                raise self._silence() from None
            except OSError:
                # The server hung up. It may have said why before it did: that is still there to be read.
                return

    def reply(self) -> Reply:
        """The first line of the next answer, as ``ask`` gives it. Raises Failure; then that is still to be answered."""
        if self._mid_answer:
            self.close()
        try:
            return self._reply_patiently()
        finally:
            self._end_retries()

    def renew(self) -> None:
        """Something has succeeded: retries are counted anew."""
        self._waits = None
        self._unasked = len(self._addresses) - 1

    def wait(self, failure: Failure, state: str) -> None:
        """Turn to the next server because of ``failure``; when all were asked, wait. Raises it after too many times."""
        if self._waits is None:
            self._waits = turns(len(self._addresses) - 1, self._retries)
            self._failing_since = time.monotonic()
        turn = next(self._waits, None)
        if turn is None or self._interrupted.is_set():
            raise failure
        (number, wait_s), before = turn, self.address
        self.close()
        self._addresses.rotate(-1)
        self._unasked = max(self._unasked - 1, 0)
        asks = "again" if self.address == before else str(self.address)
        lasting_s = time.monotonic() - self._failing_since
        # Tell before waiting: the notice counts down, and stays until ``reply`` has an answer.
        self._retrying = True
        self._tell(Retrying(self.number, f"{before} {state}", asks, number, self._retries, wait_s, lasting_s))
        if self._interrupted.wait(wait_s):
            self._end_retries()
            raise failure

    def _end_retries(self) -> None:
        if self._retrying:
            self._retrying = False
            self._tell(RetryEnded(self.number))

    def exclude(self) -> bool:
        """Do not ask the present server any more. Gives whether there is another."""
        self.abandon()
        self.close()
        if len(self._addresses) > 1:
            self._addresses.popleft()
            return True
        return False

    def _reply_patiently(self) -> Reply:
        while True:
            reused = self._socket is not None
            try:
                reply = self._next_reply()
            except NoAnswer:
                self.close()
                if reused and not self._interrupted.is_set():
                    continue  # It closed an idle connection: that is its right, and no sign of being busy.
                why = f"{self.address} closed the connection without an answer"
                why += banner.advice(b"", self.address.port)
                self.wait(Failure(Exit.UNREACHABLE, "no-answer", why), "does not answer")
            except Failure as failure:
                # Where it hangs, or all its children are taken, another may do; but the same is not asked again.
                silent = failure.word == "timeout" and not self._heard
                if not self._unasked or not (silent or failure.word == "not-a-forkserver"):
                    raise
                self.wait(failure, "does not answer")
            else:
                if reply.status not in _BUSY:
                    self._ahead.popleft()
                    return reply
                self.close()
                self.wait(refusal(reply, self._identify(reply)), "is busy")

    def receive(self, wanted: type[_Piece]) -> _Piece | Trailer:
        """The next piece of the answer's rest, ``memoryview`` of a GET or ``Entry`` of a LIST; the trailer is the last.

        A ``memoryview`` holds until the next call. A trailer before the content's end is never ``ok``. Raises Failure.
        """
        try:
            event = self._next_event()
        except ProtocolError as error:
            raise self._violation(error) from error
        if isinstance(event, Trailer):
            self._mid_answer = False
            return event
        if not isinstance(event, wanted):
            raise AssertionError("the stream knows what was asked for")  # noqa: TRY004 - our bug, not the server's
        return event

    def whole_answer(self) -> tuple[Reply, memoryview, Trailer] | None:
        """What ``reply`` and ``receive`` would give, if it went well and is here already; else None. Raises Failure.

        The ``memoryview`` holds until the next call.
        """
        self.flush()
        if self._socket is None or self._mid_answer:
            return None
        try:
            answer = self._stream.next_whole()
            if answer is not None:
                self._identify(answer[0])
                self._ahead.popleft()
        except ProtocolError as error:
            raise self._violation(error) from error
        return answer

    def receive_entries(self) -> list[Entry] | Trailer:
        """The next entries of a listing, at least one; the trailer is the last. Raises Failure."""
        entries = self._stream.next_entries()
        if entries:
            return entries
        event = self.receive(Entry)
        return event if isinstance(event, Trailer) else [event]

    def _next_reply(self) -> Reply:
        if self._socket is None:
            self._socket = self._connect_to_one()
            self._stream = ReplyStream()
            self._identified = None
            self._first = b""
            self._unsent.clear()
            for request in self._ahead:
                self._stand_by(request)
        self._heard = False
        self._mid_answer = True
        self.flush()
        try:
            reply = self._next_event()
            if not isinstance(reply, Reply):
                raise AssertionError("an answer begins with a reply")  # noqa: TRY004 - our bug, not the server's
            self._identify(reply)
        except ProtocolError as error:
            raise self._violation(error) from error
        self._heard = self._speaks = True
        if reply.status is Status.UNCHANGED and self._ahead[0].unless_etag is None:
            raise self._violation(ProtocolError(Status.BAD_REQUEST, "unchanged, although nobody asked for changes"))
        self._mid_answer = reply.status is Status.OK and self._ahead[0].verb in ("GET", "LIST")
        if reply.status.closing:
            self.close()
        return reply

    def _connect_to_one(self) -> socket.socket:
        """Where none can be reached, the Failure tells all the reasons."""
        failures: list[Failure] = []
        for _ in range(len(self._addresses)):
            try:
                connected = connect(self.address, self._timeout_s)
            except Failure as failure:
                failures.append(failure)
                self._addresses.rotate(-1)
            else:
                if self._throttle is not None:
                    # The server must notice soon: it gives up a peer that takes much at once, then nothing for long.
                    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * self._throttle.block_bytes)
                return connected
        raise Failure(Exit.UNREACHABLE, "unreachable", "; ".join(failure.reason for failure in failures))

    def _stand_by(self, request: Request) -> None:
        self._stream.expect(request)
        self._unsent.append(encode_request(request))

    def _next_event(self) -> Reply | Entry | Trailer | memoryview:
        while True:
            event = self._stream.next_event()
            if event is not None:
                return event
            room = self._stream.room()
            size_bytes = self._read(room)
            if not size_bytes:
                return self._end_of_file()
            self._watch_rate(size_bytes)
            self._heard = True
            if not self._speaks:
                self._first += room[: min(size_bytes, banner.ENOUGH_BYTES)]
            self._stream.received(size_bytes)

    def _read(self, room: memoryview) -> int:
        """How many bytes have come; 0 at end-of-file and after a reset, which a server that was killed may send."""
        if self._socket is None:
            raise AssertionError("an answer is awaited without a connection")
        try:
            if self._throttle is None:
                return self._socket.recv_into(room)
            size_bytes = self._socket.recv_into(room[: self._throttle.block_bytes])
        except TimeoutError:
            raise self._silence() from None
        except OSError:
            return 0
        self._throttle.received(size_bytes, self._interrupted)
        return size_bytes

    def _watch_rate(self, size_bytes: int) -> None:
        now = time.monotonic()
        if not self._heard:
            self._counted_from, self._counted_bytes = now, 0
        self._counted_bytes += size_bytes
        seconds = now - self._counted_from
        if seconds >= self._timeout_s:
            if self._counted_bytes < MIN_RATE * seconds:
                self.close()
                why = f"{self.address} sent only {counted(self._counted_bytes, 'byte')} in {seconds:.0f} s"
                raise Failure(Exit.UNREACHABLE, "timeout", why, self.served)
            self._counted_from, self._counted_bytes = now, 0

    def _end_of_file(self) -> Reply | Entry | Trailer | memoryview:
        """What the stream still holds: the end of a content that was broken off, and why."""
        self.close()
        if not self._heard:
            raise NoAnswer
        try:
            self._stream.end_of_file()
            event = self._stream.next_event()
        except ProtocolError:
            if not self._speaks:
                raise
            event = None
        if event is None:
            raise Failure(Exit.UNREACHABLE, "connection-lost", "the connection was lost", self.served)
        return event

    def _identify(self, reply: Reply) -> Served:
        """Note who answers: mostly the one who did before."""
        identity = reply.fields.get("pid"), reply.fields.get("start")
        if self.served is None or identity != self._identified:
            self.served = Served(decode_number(identity[0] or ""), identity[1] or "", str(self.address))
            self._identified = identity
        return self.served

    def _silence(self) -> Failure:
        served = self.served if self._heard else None
        why = f"{self.address} sent nothing for {self._timeout_s:g} s"
        if not self._speaks:
            why += ("" if self._first else ": perhaps it is full") + banner.advice(self._first, self.address.port)
        return Failure(Exit.UNREACHABLE, "timeout", why, served)

    def _violation(self, error: ProtocolError) -> Failure:
        self.close()
        if not self._speaks:
            why = f"{self.address} does not speak the forkserver protocol" + banner.advice(
                self._first, self.address.port
            )
            return Failure(Exit.UNREACHABLE, "not-a-forkserver", why)
        return violation(error, self.served)
