"""Send requests in order, over one connection after the other, to the first server that answers. Runs in the client."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from forkserver.client.events import RetryEnded, Retrying
from forkserver.client.outcome import Exit, Failure, Word, refusal
from forkserver.client.remote import banner
from forkserver.client.remote.dial import NoAnswer
from forkserver.client.remote.transport import Transport
from forkserver.protocol.messages import Entry, Reply, Status, Trailer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.events import OnEvent
    from forkserver.client.outcome import Served
    from forkserver.client.remote.address import Address
    from forkserver.client.remote.ratelimit import RateLimit
    from forkserver.protocol.messages import Request

WINDOW = 64
"""Most requests on the way: enough to hide the round trip, few enough to repeat after a lost connection."""
FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
_BUSY = frozenset({Status.TOO_MANY_CONNECTIONS, Status.BUSY})
_Piece = TypeVar("_Piece", memoryview, Entry)
_numbers = itertools.count()


class Session:
    """Requests to one server after the other, and their answers in the same order. For one thread.

    The first of ``addresses`` is asked. If that server fails, the next one is asked. ``timeout_s`` bounds connecting,
    and every time without a byte, or with hardly any. Servers that are busy or do not answer are asked again after a
    wait, at most ``retries`` times in a row. ``rate_limit`` limits the rate of receiving. ``on_event`` is called with
    ``Retrying`` before each retry and with ``RetryEnded`` after the last, perhaps by another thread.
    """

    def __init__(
        self,
        *addresses: Address,
        timeout_s: float,
        retries: int,
        on_event: OnEvent | None = None,
        rate_limit: RateLimit | None = None,
    ) -> None:
        self.number = next(_numbers)
        self._addresses = deque(addresses)
        self._retries = retries
        self._tell = on_event or (lambda _event: None)
        self._interrupted = threading.Event()
        self._transport = Transport(timeout_s, rate_limit, self._interrupted)
        self._ahead: deque[Request] = deque()
        self._mid_answer = False
        self._waits: Iterator[tuple[int, float]] | None = None
        self._retrying = False
        self._failing_since = 0.0
        self._unasked = 0
        """How many servers have not been asked since the last success."""

    @property
    def address(self) -> Address:
        """The server that is asked now."""
        return self._addresses[0]

    @property
    def served(self) -> Served | None:
        """The process that gave the last reply; None: there has been no reply."""
        return self._transport.served

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._transport.connected

    @property
    def received_bytes(self) -> int:
        """How many bytes of the last content have come."""
        return self._transport.received_bytes

    def close(self) -> None:
        """Close the connection. Requests without an answer are sent again over the next connection."""
        self._transport.close(in_order=not (self._ahead or self._mid_answer))

    def interrupt(self) -> None:
        """Let the thread that waits for the server fail, and not retry. Called by another thread."""
        self._interrupted.set()
        self._end_retries()
        self._transport.shut_down()

    def resume(self) -> None:
        """Allow the session to be used again after ``interrupt``."""
        self._interrupted.clear()

    def abandon(self) -> None:
        """Forget the requests that have no answer."""
        if self._ahead or self._mid_answer:
            self.close()
        self._ahead.clear()

    def exclude(self) -> bool:
        """Ask the present server no more. Return whether there is another server."""
        self.abandon()
        self.close()
        if len(self._addresses) > 1:
            self._addresses.popleft()
            return True
        return False

    def ask(self, request: Request) -> Reply:
        """Send a request and return the reply. After a 200 with a content, call ``receive`` for the rest.

        An earlier answer that was not received to its end costs a new connection. Retries are counted from zero.
        Raises Failure.
        """
        self.renew()
        return self.ask_on(request)

    def ask_on(self, request: Request) -> Reply:
        """Send a request and return the reply, as ``ask``, but go on with the count of retries."""
        self.request(request)
        try:
            return self.reply()
        except Failure:
            self.abandon()
            raise

    def request(self, request: Request) -> None:
        """Queue a request, which the next ``flush`` or ``reply`` sends. ``reply`` returns the replies in this order."""
        self._ahead.append(request)
        if self.connected:
            self._transport.request(request)

    def flush(self) -> None:
        """Send the queued requests, if there is a connection. Raises Failure."""
        self._transport.flush()

    def reply(self) -> Reply:
        """Return the reply to the next request, after as many retries as are needed and allowed.

        Raises Failure. The request then still waits for its answer.
        """
        if self._mid_answer:
            self.close()
        try:
            return self._reply_patiently()
        finally:
            self._end_retries()

    def receive(self, wanted: type[_Piece]) -> _Piece | Trailer:
        """Return the next part of the answer: ``memoryview`` of a GET or ``Entry`` of a LIST, and last the trailer.

        A ``memoryview`` is valid until the next call. A trailer before the content's end is never ``ok``. Raises
        Failure.
        """
        event = self._transport.receive()
        if isinstance(event, Trailer):
            self._mid_answer = False
            return event
        if not isinstance(event, wanted):
            raise AssertionError("the stream knows what was asked for")  # noqa: TRY004 - our bug, not the server's
        return event

    def receive_entries(self) -> list[Entry] | Trailer:
        """Return the next entries of a listing, at least one, and last the trailer. Raises Failure."""
        entries = self._transport.next_entries()
        if entries:
            return entries
        event = self.receive(Entry)
        return event if isinstance(event, Trailer) else [event]

    def whole_answer(self) -> tuple[Reply, memoryview, Trailer] | None:
        """Return the next answer if the whole answer is in the buffer and is a success; else None. Raises Failure.

        The ``memoryview`` is valid until the next call.
        """
        self._transport.flush()
        if self._mid_answer or not self.connected:
            return None
        answer = self._transport.next_whole()
        if answer is not None:
            self._ahead.popleft()
        return answer

    def renew(self) -> None:
        """Count retries from zero, because something has succeeded."""
        self._waits = None
        self._unasked = len(self._addresses) - 1

    def wait(self, failure: Failure, state: str) -> None:
        """Turn to the next server because of ``failure``, after a wait if all servers have been asked.

        ``state`` is what the present server does, as ``is busy``. Raises ``failure`` after too many retries.
        """
        if self._waits is None:
            self._waits = _turns(len(self._addresses) - 1, self._retries)
            self._failing_since = time.monotonic()
        turn = next(self._waits, None)
        if turn is None or self._interrupted.is_set():
            raise failure
        number, wait_s = turn
        before = self.address
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

    def _reply_patiently(self) -> Reply:
        while True:
            reused = self.connected
            try:
                reply = self._next_reply()
            except NoAnswer:
                if reused and not self._interrupted.is_set():
                    continue  # A server may close an idle connection, also one that is not busy.
                advice = banner.advice(b"", self.address.port)
                why = f"{self.address} closed the connection without an answer{advice}"
                self.wait(Failure(Exit.UNREACHABLE, Word.NO_ANSWER, why), "does not answer")
            except Failure as failure:
                # Do not ask a server again that hangs, or whose children are all taken. Ask another server.
                silent = failure.word == Word.TIMEOUT and not self._transport.heard
                if not self._unasked or not (silent or failure.word == Word.NOT_A_FORKSERVER):
                    raise
                self.wait(failure, "does not answer")
            else:
                if reply.status not in _BUSY:
                    self._ahead.popleft()
                    return reply
                self.wait(refusal(reply, self.served), "is busy")

    def _next_reply(self) -> Reply:
        if not self.connected:
            self._connect()
            for request in self._ahead:
                self._transport.request(request)
        self._mid_answer = True
        reply = self._transport.reply()
        if reply.status is Status.UNCHANGED and self._ahead[0].unless_etag is None:
            raise self._transport.violation("unchanged, although nobody asked for changes")
        self._mid_answer = reply.status is Status.OK and self._ahead[0].verb in ("GET", "LIST")
        if reply.status.closing:
            self.close()
        return reply

    def _connect(self) -> None:
        """Connect to the first server that can be reached. Otherwise raise a Failure with all the reasons."""
        failures: list[Failure] = []
        for _ in range(len(self._addresses)):
            try:
                self._transport.connect(self.address)
            except Failure as failure:
                failures.append(failure)
                self._addresses.rotate(-1)
            else:
                return
        raise Failure(Exit.UNREACHABLE, Word.UNREACHABLE, "; ".join(failure.reason for failure in failures))


def _turns(others: int, retries: int) -> Iterator[tuple[int, float]]:
    """Yield the number of the retry and the seconds to wait before it, for every turn to the next server.

    ``others`` is the number of servers besides the first. All servers are asked once before the first wait.
    """
    yield from [(0, 0.0)] * others
    for number, wait_s in enumerate(backoff(retries), 1):
        yield from [(number, wait_s), *[(number, 0.0)] * others]


def backoff(retries: int) -> Iterator[float]:
    """Yield the seconds to wait before each retry: doubled up to a cap, and shortened by chance.

    Without chance, the clients that a busy server has refused would all come back at the same moment.
    """
    import random  # noqa: PLC0415 - most runs never wait, and all would pay for the import

    for attempt in range(retries):
        yield min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1)  # noqa: S311 - no secret
