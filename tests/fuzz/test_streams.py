# The invariant: whatever the bytes, and whether they come whole, byte by byte, or split anywhere, RequestStream and
# ReplyStream give the same messages and come to the same end; they raise ProtocolError and nothing else.
"""A fuzzer for the parsers: bounded in the suite; with a number of seconds as its argument, a program that goes on."""

from __future__ import annotations

import itertools
import sys
import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forkserver.protocol.framing import ReplyStream, RequestStream
from forkserver.protocol.messages import VERBS, ProtocolError, Request

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
    ),
]
PIECES = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=8), max_size=5).map(b"".join)
BEGINNINGS = st.sampled_from(
    [b"GET /", b"LIST /%4", b"FS1 200 ok length=", b"FS1 END truncated sent=", b"GET /" + b"y" * 8186]
)
LINES = st.tuples(BEGINNINGS, PIECES, st.just(b"\n")).map(b"".join)
BYTES = st.tuples(st.lists(LINES, max_size=4).map(b"".join), PIECES).map(b"".join)
SPLITS = st.lists(st.integers(0, 400), max_size=6)

Outcome = list[object]


def pieces(data: bytes, splits: list[int]) -> list[bytes]:
    """``data`` cut at ``splits``."""
    places = [0, *sorted(split for split in splits if split < len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def content(message: object) -> object:
    """What a message says, comparable."""
    slots: tuple[str, ...] = getattr(type(message), "__slots__", ())
    return (type(message).__name__, *[getattr(message, slot) for slot in slots])


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


def read_replies(fed: list[bytes], verbs: list[str]) -> Outcome:
    """Everything a client that asked ``verbs`` makes of these pieces; the bytes of a content are joined."""
    stream = ReplyStream()
    for verb in verbs:
        stream.expect(Request(verb))
    outcome: Outcome = []
    try:
        for piece in fed:
            stream.room()[: len(piece)] = piece
            stream.received(len(piece))
            take_events(stream, outcome)
        stream.end_of_file()
        take_events(stream, outcome)
        outcome.append(None)
    except ProtocolError as error:
        outcome.append((error.status, error.message))
    return outcome


def take_events(stream: ReplyStream, outcome: Outcome) -> None:
    for piece in iter(stream.next_event, None):
        event = bytes(piece) if isinstance(piece, memoryview) else piece
        last = outcome[-1] if outcome else None
        if isinstance(event, bytes) and isinstance(last, bytes):
            outcome[-1] = last + event
        else:
            outcome.append(event if isinstance(event, bytes) else content(event))


BOUNDED = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@BOUNDED
@given(BYTES, SPLITS)
def test_requests(data: bytes, splits: list[int]) -> None:
    whole = read_requests([data])
    assert read_requests(pieces(data, splits)) == whole
    assert read_requests(pieces(data, list(range(len(data))))) == whole


@BOUNDED
@given(BYTES, SPLITS, st.lists(st.sampled_from(VERBS), max_size=4))
def test_replies(data: bytes, splits: list[int], verbs: list[str]) -> None:
    whole = read_replies([data], verbs)
    assert read_replies(pieces(data, splits), verbs) == whole
    assert read_replies(pieces(data, list(range(len(data)))), verbs) == whole


@BOUNDED
@given(BYTES)
def test_replies_to_a_get(data: bytes) -> None:
    test_replies.hypothesis.inner_test(b"FS1 200 ok length=70\n" + data, [30], ["GET"])  # type: ignore[attr-defined]


def main() -> None:
    """Fuzz for as many seconds as the command line says, with other bytes each round; a failure is an exception."""
    end = time.monotonic() + float(sys.argv[1])
    rounds = 0
    while time.monotonic() < end:
        for test in (test_requests, test_replies, test_replies_to_a_get):
            test()
        rounds += 1
    sys.stdout.write(f"{rounds} rounds, nothing found\n")


if __name__ == "__main__":
    main()
