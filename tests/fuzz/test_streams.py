# The invariant: RequestStream and ReplyStream give the same messages and the same end for the same bytes, whether the
# bytes come whole, byte by byte or split anywhere, and whether ``next_whole`` and ``next_entries`` are used or only
# ``next_event``. The streams raise ProtocolError and nothing else.
"""A fuzzer for the parsers: bounded in the suite; with a number of seconds as its argument, a program that goes on."""

from __future__ import annotations

import itertools
import sys
import time

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from forkserver.protocol.framing import ReplyStream, RequestStream
from forkserver.protocol.messages import VERBS, ProtocolError, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# What the grammar is made of, so that random choices get deep into it, next to what it forbids.
FRAGMENTS = [
    *(b"GET ", b"STAT ", b"LIST ", b"PING", b"/", b"/x", b"/%41", b"%", b"%4", b" ", b"  ", b"=", b'"', b"\\", b"\0"),
    *(b" offset=", b" length=", b" digest=sha256", b" if-etag=e", b" unless-etag=e", b" recursive=1", b" sent="),
    *(b"0", b"1", b"7", b"9" * 19, b"-1", b"\xd9\xa1", b"\r\n", b"\n", b"\n", b"\n", b"x" * 255, b"y" * 8186),
    *(b"FS1 ", b"FS1 200 ok", b"FS1 200 ok length=7", b"FS1 200 ok length=70", b"FS1 404 not-found pid=1", b"FS1 END "),
    *(
        b"FS1 END ok",
        b"FS1 END truncated sent=",
        b"FS1 END draining sent=7\n",
        b' message="it ended"',
        b"file /x",
        b"dir /",
        b"file /x length=7\ncontent",
        b"file /x length=17000\n",
        b"FS1 200 ok length=7\ncontentFS1 END ok\n",
    ),
]
PIECES = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=5).map(b"".join)
BEGINNINGS = st.sampled_from(
    [b"GET /", b"LIST /%4", b"FS1 200 ok length=", b"FS1 END truncated sent=", b"GET /" + b"y" * 8186]
)
LINES = st.tuples(BEGINNINGS, PIECES, st.just(b"\n")).map(b"".join)
BYTES = st.tuples(st.lists(LINES, max_size=4).map(b"".join), PIECES).map(b"".join)
SPLITS = st.lists(st.integers(0, 400), max_size=6)
REQUESTS = st.builds(Request, st.sampled_from(VERBS)) | st.just(Request("LIST", content=16384))

Outcome = list[object]


def pieces(data: bytes, splits: list[int]) -> list[bytes]:
    """``data`` cut at ``splits``."""
    places = [0, *sorted(split for split in splits if split < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def content(message: object) -> object:
    """What a message says, comparable."""
    slots: tuple[str, ...] = getattr(type(message), "__slots__", ())
    values = [getattr(message, slot) for slot in slots]
    return (type(message).__name__, *[bytes(value) if isinstance(value, memoryview) else value for value in values])


def read_requests(fed: list[bytes]) -> Outcome:
    """Everything a server makes of these pieces: messages, then how it ended."""
    stream = RequestStream()
    outcome: Outcome = []
    try:
        for piece in fed:
            stream.feed(piece)
            # One by one: an error must not take along those before it.
            for request in iter(stream.next_request, None):
                outcome.append(content(request))
        stream.end_of_file()
    except ProtocolError as error:
        outcome.append((error.status, error.message))
    return outcome


def read_replies(fed: list[bytes], asked: list[Request], *, fast: bool = False) -> Outcome:
    """Everything a client that asked ``asked`` makes of these pieces; the bytes of a content are joined."""
    stream = ReplyStream()
    for request in asked:
        stream.expect(request)
    outcome: Outcome = []
    try:
        for piece in fed:
            stream.room()[: len(piece)] = piece
            stream.received(len(piece))
            take_events(stream, outcome, fast=fast)
        stream.end_of_file()
        take_events(stream, outcome, fast=fast)
        outcome.append(None)
    except ProtocolError as error:
        outcome.append((error.status, error.message))
    return outcome


def take_events(stream: ReplyStream, outcome: Outcome, *, fast: bool) -> None:
    """Take every event that is complete; where ``fast``, several at once wherever the stream can give them."""
    while True:
        events: list[object] = list(several_events(stream)) if fast else []
        if not events:
            event = stream.next_event()
            if event is None:
                return
            events.append(event)
        for each in events:
            add_event(outcome, each)


def several_events(stream: ReplyStream) -> Iterable[object]:
    """Return what ``next_whole`` or ``next_entries`` gives."""
    return stream.next_whole() or stream.next_entries()


def add_event(outcome: Outcome, event: object) -> None:
    """Add ``event``; join bytes with the bytes before them. Leave out an empty content, as ``next_event`` does."""
    if not isinstance(event, memoryview):
        outcome.append(content(event))
    elif outcome and isinstance(outcome[-1], bytes):
        outcome[-1] += bytes(event)
    elif event:
        outcome.append(bytes(event))


BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@BOUNDED
@given(BYTES, SPLITS)
def test_requests(data: bytes, splits: list[int]) -> None:
    whole = read_requests([data])
    assert read_requests(pieces(data, splits)) == whole
    assert read_requests(pieces(data, list(range(len(data))))) == whole


@BOUNDED
@given(BYTES, SPLITS, st.lists(REQUESTS, max_size=4))
def test_replies(data: bytes, splits: list[int], asked: list[Request]) -> None:
    check_replies(data, splits, asked)


@BOUNDED
@given(BYTES)
def test_replies_to_a_get(data: bytes) -> None:
    check_replies(b"FS1 200 ok length=70\n" + data, [30], [Request("GET")])


@BOUNDED
@given(BYTES, SPLITS, st.sampled_from([None, 16384]))
def test_replies_to_a_list(data: bytes, splits: list[int], content_bytes: int | None) -> None:
    check_replies(b"FS1 200 ok\n" + data, splits, [Request("LIST", content=content_bytes), Request("GET")])


@BOUNDED
@given(st.binary(max_size=40), BYTES, SPLITS)
@example(b"content", b"FS1 200 ok length=7\ncontentFS1 END okay\n", [])
def test_replies_to_gets_that_are_there_whole(body: bytes, data: bytes, splits: list[int]) -> None:
    answer = b"FS1 200 ok length=%d\n%bFS1 END ok\n" % (len(body), body)
    check_replies(answer + answer + data, splits, [Request("GET")] * 3)


def check_replies(data: bytes, splits: list[int], asked: list[Request]) -> None:
    whole = read_replies([data], asked)
    for fed in ([data], pieces(data, splits), pieces(data, list(range(len(data))))):
        assert read_replies(fed, asked) == whole
        assert read_replies(fed, asked, fast=True) == whole


TESTS = (
    test_requests,
    test_replies,
    test_replies_to_a_get,
    test_replies_to_a_list,
    test_replies_to_gets_that_are_there_whole,
)


def main() -> None:
    """Fuzz for as many seconds as the command line says, with other bytes each round; a failure is an exception."""
    end = time.monotonic() + float(sys.argv[1])
    rounds = 0
    while time.monotonic() < end:
        for test in TESTS:
            test()
        rounds += 1
    sys.stdout.write(f"{rounds} rounds, nothing found\n")


if __name__ == "__main__":
    main()
