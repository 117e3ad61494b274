"""Streams cut into messages: limits, pieces of any size, pipelining, and ends that come too early."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.protocol.framing import MAX_EARLY_TRAILER_BYTES, ROOM_BYTES, ReplyStream, RequestStream
from forkserver.protocol.messages import (
    MAX_LISTED_BYTES,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    End,
    Entry,
    ProtocolError,
    Reply,
    Request,
    Status,
    Trailer,
)

OK = b"FS1 200 ok pid=1 length=%d\n"
LISTED = "LIST with contents"
TRUNCATED = b'FS1 END truncated sent=%d message="the file became shorter"\n'


def request_stream(data: bytes) -> RequestStream:
    stream = RequestStream()
    stream.feed(data)
    return stream


def reply_stream(data: bytes, *verbs: str) -> ReplyStream:
    stream = ReplyStream()
    for verb in verbs or ("GET",):
        stream.expect(Request("LIST", content=MAX_LISTED_BYTES) if verb == LISTED else Request(verb))
    feed(stream, data)
    return stream


def feed(stream: ReplyStream, data: bytes) -> None:
    """Put ``data`` where the stream wants it."""
    stream.room()[: len(data)] = data
    stream.received(len(data))


def drain(stream: ReplyStream) -> list[Reply | Entry | Trailer | bytes]:
    events: list[Reply | Entry | Trailer | bytes] = []
    while (event := stream.next_event()) is not None:
        events.append(bytes(event) if isinstance(event, memoryview) else event)
    return events


def a_line(length: int) -> bytes:
    """A good request line of so many bytes, its line feed included."""
    return b"GET /" + b"x" * (length - 6) + b"\n"


def test_the_longest_request_line_is_served_and_the_next_one_after_it() -> None:
    stream = request_stream(a_line(MAX_REQUEST_BYTES) + b"PING\n")
    request = stream.next_request()
    assert request is not None
    assert len(request.name) == MAX_REQUEST_BYTES - 5
    assert (request := stream.next_request()) is not None
    assert request.verb == "PING"
    assert stream.next_request() is None


@pytest.mark.parametrize("end", [b"", b"\n", b"\nPING\n"], ids=["more-to-come", "with-line-feed", "with-more"])
def test_a_request_line_one_byte_longer_is_not(end: bytes) -> None:
    stream = request_stream(a_line(MAX_REQUEST_BYTES + 1)[:-1] + end)
    with pytest.raises(ProtocolError) as caught:
        stream.next_request()
    assert caught.value.status is Status.TOO_LONG


def test_the_limit_is_noticed_with_the_byte_that_breaks_it() -> None:
    stream = request_stream(b"x" * (MAX_REQUEST_BYTES - 1))
    assert stream.next_request() is None
    stream.feed(b"x")
    with pytest.raises(ProtocolError, match="longer than 8192"):
        stream.next_request()


def test_a_thousand_pipelined_requests_in_one_piece_come_out_in_order() -> None:
    stream = request_stream(b"".join(b"GET /%d offset=%d\n" % (number, number) for number in range(1000)))
    for number in range(1000):
        request = stream.next_request()
        assert request is not None
        assert (request.name, request.offset) == (b"/%d" % number, number)
    assert stream.next_request() is None
    assert not stream.started
    stream.end_of_file()


def test_a_request_byte_by_byte_is_complete_with_its_line_feed() -> None:
    stream = RequestStream()
    for byte in b"STAT /x":
        stream.feed(bytes((byte,)))
        assert stream.next_request() is None
        assert stream.started
    stream.feed(b"\n")
    request = stream.next_request()
    assert request is not None
    assert (request.verb, request.name) == ("STAT", b"/x")
    assert not stream.started


def test_a_request_cut_by_end_of_file_is_bad() -> None:
    stream = request_stream(b"PING\nGET /x")
    assert stream.next_request() is not None
    assert stream.next_request() is None
    with pytest.raises(ProtocolError, match="cut off") as caught:
        stream.end_of_file()
    assert caught.value.status is Status.BAD_REQUEST


def test_an_empty_line_is_bad() -> None:
    with pytest.raises(ProtocolError, match="empty"):
        request_stream(b"\nPING\n").next_request()


def test_good_requests_before_a_bad_one_are_served() -> None:
    stream = request_stream(b"PING\nnonsense\nPING\n")
    assert stream.next_request() is not None
    with pytest.raises(ProtocolError, match="unknown verb"):
        stream.next_request()


def test_the_server_s_lines_in_the_order_they_are_said() -> None:
    stream = RequestStream()
    reply = Reply(Status.OK, {"pid": "1", "length": "0"})
    entry = Entry("file", b"/a b", {"size": "1"})
    trailer = Trailer(End.DRAINING, {"sent": "0"}, "being stopped")
    assert stream.reply(reply) == [b"FS1 200 ok pid=1 length=0\n"]
    assert stream.entry(entry) == b"file /a%20b size=1\n"
    assert stream.trailer(trailer) == b'FS1 END draining sent=0 message="being stopped"\n'


def test_content_that_looks_like_lines_is_content() -> None:
    content = b"FS1 END ok\nFS1 404 not-found\n\n"
    reply, *pieces, trailer = drain(reply_stream(OK % len(content) + content + b"FS1 END ok\n"))
    assert isinstance(reply, Reply)
    assert pieces == [content]
    assert isinstance(trailer, Trailer)
    assert trailer.end is End.OK


@pytest.mark.parametrize("most", [1000, ROOM_BYTES - 1, ROOM_BYTES])
def test_a_content_larger_than_the_room_passes_through_it(most: int) -> None:
    content = random.Random(1).randbytes(3 * ROOM_BYTES + 7)
    sent = OK % len(content) + content + b"FS1 END ok\n"
    stream = reply_stream(b"")
    events: list[Reply | Entry | Trailer | bytes] = []
    while sent:
        size = min(len(stream.room()), most)
        feed(stream, sent[:size])
        sent = sent[size:]
        events += drain(stream)
    assert b"".join(event for event in events if isinstance(event, bytes)) == content
    assert isinstance(events[-1], Trailer)


def test_an_empty_content_has_a_trailer_too() -> None:
    stream = reply_stream(OK % 0)
    assert [type(event) for event in drain(stream)] == [Reply]
    with pytest.raises(ProtocolError):
        stream.end_of_file()
    stream = reply_stream(OK % 0 + b"FS1 END ok\n")
    assert [type(event) for event in drain(stream)] == [Reply, Trailer]
    stream.end_of_file()
    assert drain(stream) == []


@pytest.mark.parametrize("verb", ["STAT", "PING", "GET", "LIST"])
def test_a_refusal_has_no_trailer(verb: str) -> None:
    stream = reply_stream(b"FS1 404 not-found pid=1\n", verb)
    assert [type(event) for event in drain(stream)] == [Reply]
    stream.end_of_file()
    assert drain(stream) == []


def test_answers_to_pipelined_requests_take_the_form_of_their_verbs() -> None:
    answers = OK % 2 + b"ab" + b"FS1 END ok\n" + b"FS1 200 ok pid=1\n" * 2 + b"dir /d\nFS1 END ok entries=1\n"
    stream = reply_stream(answers + b"FS1 200 ok pid=1\n", "GET", "STAT", "LIST", "PING")
    kinds = [Reply, bytes, Trailer, Reply, Reply, Entry, Trailer, Reply]
    assert [type(event) for event in drain(stream)] == kinds
    stream.end_of_file()
    assert drain(stream) == []


# How much of the content is missing: more than the early trailer has bytes, as many, fewer, only one byte.
@pytest.mark.parametrize("missing", [1000, len(TRUNCATED % 8) + 1, len(TRUNCATED % 8), len(TRUNCATED % 8) - 1, 9, 8, 1])
@pytest.mark.parametrize("piece", [1, 5, 10_000])
def test_an_early_trailer_tells_why_the_content_ends(missing: int, piece: int) -> None:
    data = OK % (8 + missing) + b"contents" + TRUNCATED % 8
    stream = reply_stream(b"")
    events: list[Reply | Entry | Trailer | bytes | None] = []
    for start in range(0, len(data), piece):
        feed(stream, data[start : start + piece])
        events += drain(stream)
    stream.end_of_file()
    events += drain(stream)
    content = b"".join(event for event in events if isinstance(event, bytes))
    (trailer,) = [event for event in events if isinstance(event, Trailer)]
    assert (trailer.end, trailer.fields) == (End.TRUNCATED, {"sent": "8"})
    assert content == b"contents"


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"FS1 END ok\n", id="ok-is-never-early"),
        pytest.param(b"FS1 END ok sent=8\n", id="ok-is-never-early-even-with-sent"),
        pytest.param(b"FS1 END truncated\n", id="without-sent"),
        pytest.param(TRUNCATED % 7, id="sent-elsewhere"),
        pytest.param(TRUNCATED[:-1] % 8, id="without-line-feed"),
        pytest.param(TRUNCATED % 8 + b"x", id="something-after-it"),
        pytest.param(b"FS1 END draining sent=" + b"8" * 30 + b"\n", id="sent-too-long"),
    ],
)
# Some of these fill the content up, so that the complaint comes from next_event already.
@pytest.mark.parametrize("length", [10, 1000])
def test_a_content_that_ends_early_without_a_good_reason_is_an_error(tail: bytes, length: int) -> None:
    stream = reply_stream(OK % length + b"contents" + tail)
    with pytest.raises(ProtocolError):  # noqa: PT012 - either of the two may notice
        drain(stream)
        stream.end_of_file()


def test_an_early_trailer_is_looked_for_in_the_last_bytes_only() -> None:
    for length, found in ((MAX_EARLY_TRAILER_BYTES, True), (MAX_EARLY_TRAILER_BYTES + 1, False)):
        tail = b"FS1 END truncated sent=8 x=".ljust(length - 1, b"x") + b"\n"
        stream = reply_stream(OK % 1000 + b"contents" + tail)
        drain(stream)
        if found:
            stream.end_of_file()
            assert isinstance(drain(stream)[-1], Trailer)
        else:
            with pytest.raises(ProtocolError):
                stream.end_of_file()


@pytest.mark.parametrize(
    ("data", "verb"),
    [
        (b"", "PING"),
        (b"FS1 200 ok", "PING"),
        (OK % 5, "GET"),
        (OK % 5 + b"12345", "GET"),
        (OK % 5 + b"12345FS1 END o", "GET"),
        (b"FS1 200 ok pid=1\n", "LIST"),
        (b"FS1 200 ok pid=1\nfile /x\n", "LIST"),
        (b"FS1 200 ok pid=1\nfile /x\nFS1 END ok", "LIST"),
    ],
)
def test_end_of_file_in_the_middle_of_an_answer_is_an_error(data: bytes, verb: str) -> None:
    stream = reply_stream(data, verb)
    drain(stream)
    with pytest.raises(ProtocolError, match="the connection ended in the middle"):
        stream.end_of_file()


@pytest.mark.parametrize(
    ("data", "verb", "complaint"),
    [
        (b"FS1 200 ok pid=1\nFS1 200 ok pid=1\n", "PING", "answered what was not asked"),
        (b"FS1 200 ok pid=1\n", "GET", "1 to 19 decimal digits"),
        (b"FS1 200 ok length=-1\n", "GET", "1 to 19 decimal digits"),
        (OK % 1 + b"xFS1 404 not-found\n", "GET", "a trailer was due"),
        (OK % 1 + b"xjunk\n", "GET", "more content than it promised"),
        (b"FS1 200 ok pid=1\njunk\n", "LIST", "an entry of a listing was due"),
        (b"FS1 200 ok pid=1\nFS1 200 ok pid=1\n", "LIST", "a trailer was due"),
        (b"x" * MAX_REPLY_BYTES, "PING", "longer than 16384"),
        (b"FS1 200 ok pid=1\n" + b"x" * MAX_REPLY_BYTES, "LIST", "longer than 16384"),
        (OK % 1 + b"x" + b"y" * MAX_REPLY_BYTES, "GET", "more content than it promised"),
    ],
)
def test_a_server_that_does_not_keep_to_the_protocol(data: bytes, verb: str, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        drain(reply_stream(data, verb))


def test_the_longest_reply_line_is_read() -> None:
    line = b"FS1 200 ok x=" + b"x" * (MAX_REPLY_BYTES - 14) + b"\n"
    assert len(line) == MAX_REPLY_BYTES
    assert len(drain(reply_stream(line, "PING"))) == 1


def drain_by_many(stream: ReplyStream) -> list[Reply | Entry | Trailer | bytes]:
    """As ``drain``, by what takes several events at once wherever it can."""
    events: list[Reply | Entry | Trailer | bytes] = []
    while True:
        whole = stream.next_whole()
        entries = stream.next_entries()
        event = None if whole or entries else stream.next_event()
        if whole:
            reply, content, trailer = whole
            events += [reply, *([bytes(content)] if content else []), trailer]
        elif entries:
            events += entries
        elif event is None:
            return events
        else:
            events.append(bytes(event) if isinstance(event, memoryview) else event)


def told(data: bytes, verbs: list[str], piece: int, drained) -> list[object]:
    """What a client learns: contents joined, everything else by its values, the complaint last."""
    stream = reply_stream(b"", *verbs)
    learned: list[object] = []

    def learn(events: list[Reply | Entry | Trailer | bytes]) -> None:
        for event in events:
            if isinstance(event, bytes) and learned and isinstance(learned[-1], bytes):
                learned[-1] += event
            elif isinstance(event, bytes):
                learned.append(event)
            else:
                values = [getattr(event, name) for name in event.__slots__]
                learned.append([bytes(value) if isinstance(value, memoryview) else value for value in values])

    try:
        for start in range(0, len(data), piece):
            feed(stream, data[start : start + piece])
            learn(drained(stream))
        stream.end_of_file()
        learn(drained(stream))
    except ProtocolError as error:
        learned.append(str(error))
    return learned


def of_get(content: bytes) -> bytes:
    return OK % len(content) + content + b"FS1 END ok digest=sha256:0\n"


ANSWERS = [
    *(("GET", of_get(content)) for content in (b"", b"abc", b"FS1 END ok\n", b"\n", b"x" * 300)),
    ("GET", OK % 8 + b"contents" + b"FS1 END changed\n"),
    ("GET", OK % 300 + b"contents" + TRUNCATED % 8),
    ("GET", OK % 40 + TRUNCATED % 0),
    ("GET", OK % 3 + b"abcFS1 END OK\n"),
    ("GET", b"FS1 200 ok length=3x\nabcFS1 END ok\n"),
    ("GET", b"FS1 200 ok length=3 length=3\nabcFS1 END ok\n"),
    ("GET", b"FS1 404 not-found pid=1\n"),
    ("GET", b"FS1 200 okay length=1\na"),
    ("STAT", b"FS1 200 ok pid=1\n"),
    ("LIST", b"FS1 200 ok pid=1\nfile /a size=1\ndir /b\nfile /c%20d size=2\nFS1 END ok entries=3\n"),
    ("LIST", b"FS1 200 ok pid=1\nFS1 END ok entries=0\n"),
    ("LIST", b"FS1 200 ok pid=1\nfile /a size=1\nfile  /b\nFS1 END ok entries=2\n"),
    ("LIST", b"FS1 200 ok pid=1\nfile /a\n" + b"x" * MAX_REPLY_BYTES + b"\n"),
    ("LIST", b"FS1 200 ok pid=1\nfile /a\n\n"),
    ("LIST", b"FS1 200 ok pid=1\nfile /a length=4\ndir /b\nFS1 END ok entries=2\n"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=4\nFS1 file /b\ndir /c\nfile /d length=0\nFS1 END ok entries=4\n"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=3\n" + b"\n" * 3 + b"file /b length=300\n" + b"x" * 300),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=16384\n" + b"x" * 16384 + b"FS1 END ok entries=1\n"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=16385\n" + b"x" * 16385 + b"FS1 END ok entries=1\n"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=4x\nabcd"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=5\nabcdFS1 END ok entries=1\n"),
    (LISTED, b"FS1 200 ok pid=1\nfile /a length=2\nabcdFS1 END ok entries=1\n"),
    (LISTED, b"FS1 200 ok pid=1\nFS1 END read-error entries=0\n"),
    (LISTED, b"FS1 404 not-found pid=1\n"),
]


@given(st.lists(st.sampled_from(ANSWERS), max_size=6), st.sampled_from([1, 2, 3, 50, 100_000]), st.integers(0, 40))
def test_several_events_at_once_are_the_same_events_in_any_order(
    answers: list[tuple[str, bytes]], piece: int, missing: int
) -> None:
    data = b"".join(answer for _, answer in answers)
    data = data[: len(data) - missing]
    verbs = [verb for verb, _ in answers] or ["PING"]
    assert told(data, verbs, piece, drain_by_many) == told(data, verbs, piece, drain)


@pytest.mark.parametrize("piece", [1, 50, 100_000])
@pytest.mark.parametrize("answer", ANSWERS)
def test_several_events_at_once_are_the_same_events(answer: tuple[str, bytes], piece: int) -> None:
    verb, data = answer
    for behind in (b"", of_get(b"x")):
        verbs = [verb, "GET"] if behind else [verb]
        assert told(data + behind, verbs, piece, drain_by_many) == told(data + behind, verbs, piece, drain)


def test_an_entry_comes_with_its_content_and_not_before_that_is_there() -> None:
    entry = b"FS1 200 ok pid=1\nfile /a length=7\ncontent"
    for missing in range(1, len(b"content") + 1):
        stream = reply_stream(entry[:-missing], LISTED)
        assert [type(event) for event in drain(stream)] == [Reply]
        assert stream.next_entries() == []
    stream = reply_stream(entry + b"dir /b\nFS1 END ok entries=2\n", LISTED)
    _, first, second, end = drain(stream)
    assert isinstance(first, Entry)
    assert first.content == b"content"
    assert isinstance(second, Entry)
    assert second.content is None
    assert isinstance(end, Trailer)


def test_a_content_that_was_not_asked_for_is_no_content() -> None:
    stream = reply_stream(b"FS1 200 ok pid=1\nfile /a length=7\ncontent\n", "LIST")
    with pytest.raises(ProtocolError):
        drain(stream)


def test_a_whole_answer_is_taken_at_once_and_not_before_it_is_there() -> None:
    answer = of_get(b"content")
    for missing in range(1, len(answer)):
        assert reply_stream(answer[:-missing]).next_whole() is None
    stream = reply_stream(answer + b"FS1 404 not-found\n", "GET", "GET")
    whole = stream.next_whole()
    assert whole is not None
    assert bytes(whole[1]) == b"content"
    assert stream.next_whole() is None
    (reply,) = drain(stream)
    assert isinstance(reply, Reply)
    assert reply.status is Status.NOT_FOUND
