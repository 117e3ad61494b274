"""The grammar of one line: every way to write it wrong, and round trips for every way to write it right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkserver.protocol import native
from forkserver.protocol.messages import DIGESTS, VERBS, End, Entry, ProtocolError, Reply, Request, Status, Trailer

PRINTABLE = st.characters(min_codepoint=0x21, max_codepoint=0x7E)
WORDS = st.text(PRINTABLE, min_size=1, max_size=20)
NUMBERS = st.integers(0, 10**19 - 1)
NAMES = st.binary(max_size=60).map(lambda tail: b"/" + tail)
KEYS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=9).filter(lambda key: key != "message")
FIELDS = st.dictionaries(KEYS, WORDS, max_size=4)
MESSAGES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), max_size=40)

DECODERS = [native.decode_request, native.decode_reply, native.decode_trailer, native.decode_entry]


def same(one: object, other: object) -> bool:
    """Whether two messages are of one kind and equal in every slot."""
    slots: tuple[str, ...] = type(one).__slots__  # type: ignore[attr-defined] # every message has them
    return type(one) is type(other) and all(getattr(one, slot) == getattr(other, slot) for slot in slots)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "the line is empty"),
        (b"GET /x\r", "only printable ASCII"),
        (b"GET\t/x", "only printable ASCII"),
        (b"GET /\x00", "only printable ASCII"),
        (b"GET /\x7f", "only printable ASCII"),
        ("GET /ü".encode(), "only printable ASCII"),
        (b"GET /\xff\xfe", "only printable ASCII"),
        (b"GET /x\n", "only printable ASCII"),
        (b"GET  /x", "exactly one space"),
        (b" GET /x", "exactly one space"),
        (b"GET /x ", "exactly one space"),
        (b" ", "exactly one space"),
        (b"get /x", "unknown verb"),
        (b"PUT /x", "unknown verb"),
        (b"GET/x", "unknown verb"),
        (b"=", "unknown verb"),
        (b"GET", "begins with a slash"),
        (b"STAT", "begins with a slash"),
        (b"LIST", "begins with a slash"),
        (b"GET x", "begins with a slash"),
        (b"GET %2Fx", "begins with a slash"),
        (b"GET offset=1", "begins with a slash"),
        (b"GET /%", "two hexadecimal digits"),
        (b"GET /%1", "two hexadecimal digits"),
        (b"GET /%1g", "two hexadecimal digits"),
        (b"GET /%g1", "two hexadecimal digits"),
        (b"GET /%%20", "two hexadecimal digits"),
        (b"GET /%+1", "two hexadecimal digits"),
        (b"GET /%0x41", "two hexadecimal digits"),
        (b"GET /x /y", "form key=value"),
        (b"GET /x offset", "form key=value"),
        (b"PING /x", "form key=value"),
        (b"PING x=1", "unknown field"),
        (b"GET /x colour=red", "unknown field"),
        (b"GET /x =1", "unknown field"),
        (b"GET /x Offset=1", "unknown field"),
        (b"GET /x recursive=1", "unknown field"),
        (b"STAT /x unless-etag=1", "unknown field"),
        (b"STAT /x offset=1", "belong to a digest"),
        (b"STAT /x length=0", "belong to a digest"),
        (b"LIST /x digest=sha256", "belongs to content"),
        (b"LIST /x content=-1", "1 to 19 decimal digits"),
        (b"LIST /x content=", "1 to 19 decimal digits"),
        (b"GET /x content=1", "unknown field"),
        (b"LIST /x content=1 length=1", "unknown field"),
        (b"GET /x offset=1 offset=1", "given twice"),
        (b"GET /x offset=", "1 to 19 decimal digits"),
        (b"GET /x offset=-1", "1 to 19 decimal digits"),
        (b"GET /x offset=+1", "1 to 19 decimal digits"),
        (b"GET /x offset=1_0", "1 to 19 decimal digits"),
        (b"GET /x offset=0x1", "1 to 19 decimal digits"),
        (b"GET /x offset=1.5", "1 to 19 decimal digits"),
        (b"GET /x offset=1=1", "1 to 19 decimal digits"),
        (b"GET /x offset=" + b"9" * 20, "1 to 19 decimal digits"),
        (b"GET /x length=" + b"9" * 30, "1 to 19 decimal digits"),
        (b"GET /x digest=md5", "unknown digest"),
        (b"GET /x digest=", "unknown digest"),
        (b"GET /x digest=SHA256", "unknown digest"),
        (b"GET /x if-etag=", "1 to 128 characters"),
        (b"GET /x unless-etag=" + b"e" * 129, "1 to 128 characters"),
        (b"LIST /x recursive=0", "recursive takes the value 1"),
        (b"LIST /x recursive=", "recursive takes the value 1"),
    ],
)
def test_bad_requests_get_400_and_a_sentence(line: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint) as caught:
        native.decode_request(line)
    assert caught.value.status is Status.BAD_REQUEST
    # Fit for a reply: the message of a reply can hold it.
    reply = Reply(Status.BAD_REQUEST, {}, caught.value.message)
    assert same(native.decode_reply(native.encode_reply(reply)[:-1]), reply)


@pytest.mark.parametrize(
    "word", ["", "-1", "+1", " 1", "1 ", "1_0", "\u0661", "\u00b2", "1" * 20, "1" * 30, "1" * 5000, "a", "0x1", "1\n"]
)
def test_numbers_that_are_none(word: str) -> None:
    with pytest.raises(ProtocolError, match="1 to 19 decimal digits"):
        native.decode_number(word)


@pytest.mark.parametrize(("word", "number"), [("0", 0), ("007", 7), ("9" * 19, 10**19 - 1)])
def test_numbers_that_are_some(word: str, number: int) -> None:
    assert native.decode_number(word) == number


def test_every_byte_survives_in_a_name() -> None:
    every = bytes(range(256))
    assert native.decode_name(native.encode_name(every)) == every
    for byte in range(256):
        name = bytes((byte,))
        word = native.encode_name(name)
        assert native.decode_name(word) == name
        assert word in {chr(byte), f"%{byte:02X}"}


def test_only_the_bytes_of_the_norm_stand_for_themselves() -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    plain = set(letters + "-._~/!$&'()*+,;=:@")
    assert {chr(byte) for byte in range(256) if len(native.encode_name(bytes((byte,)))) == 1} == plain


def test_a_receiver_takes_small_digits_and_what_need_not_stand_for_itself() -> None:
    assert native.decode_name('/%c3%BC"<>[\\]^`{|}#?') == b'/\xc3\xbc"<>[\\]^`{|}#?'


@pytest.mark.parametrize(
    ("nanoseconds", "word"),
    [
        (0, "0.000000000"),
        (1, "0.000000001"),
        (-1, "-0.000000001"),
        (-1_000_000_001, "-1.000000001"),
        (1_624_000_000_500_000_000, "1624000000.500000000"),
    ],
)
def test_times(nanoseconds: int, word: str) -> None:
    assert native.encode_time(nanoseconds) == word
    assert native.decode_time(word) == nanoseconds


@pytest.mark.parametrize("word", ["", "1", "1.5", "1.0000000000", ".000000000", "--1.000000000", "1.-00000000", "1,0"])
def test_times_that_are_none(word: str) -> None:
    with pytest.raises(ProtocolError):
        native.decode_time(word)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"", "empty"),
        (b"FS1", "unknown status"),
        (b"FS1 200", "unknown status"),
        (b"FS1 200 OK", "unknown status"),
        (b"FS1 200 not-found", "unknown status"),
        (b"FS1 0200 ok", "unknown status"),
        (b"FS1 299 ok", "unknown status"),
        (b"FS2 200 ok", "not a forkserver's reply"),
        (b"HTTP/1.1 200 OK", "not a forkserver's reply"),
        (b"FS1 200 ok pid", "form key=value"),
        (b"FS1 200 ok pid=1 pid=1", "given twice"),
        (b'FS1 404 not-found message="x', "not well quoted"),
        (b'FS1 404 not-found message="', "not well quoted"),
        (b'FS1 404 not-found message="x" pid=1', "not well quoted"),
        (b'FS1 404 not-found message="\xc3"', "not well quoted"),
        (b'FS1 404 not-found message="\\"', "not well quoted"),
    ],
)
def test_bad_replies(line: bytes, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        native.decode_reply(line)


@pytest.mark.parametrize("line", [b"", b"FS1 END", b"FS1 END fine", b"FS1 200 ok", b"FS1 END OK", b"END ok", b"x"])
def test_bad_trailers(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        native.decode_trailer(line)


@pytest.mark.parametrize(
    "line", [b"", b"file", b"file x", b"fifo /x", b"FILE /x", b"file /%", b"dir /x y", b"dir /x a=1 a=1", b"dir /\xff"]
)
def test_bad_entries(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        native.decode_entry(line)


@st.composite
def _requests(draw: st.DrawFn) -> Request:
    verb = draw(st.sampled_from(VERBS))
    request = Request(verb) if verb == "PING" else Request(verb, draw(NAMES))
    if verb == "GET":
        request.offset = draw(NUMBERS)
        request.length = draw(st.none() | NUMBERS)
        request.digest = draw(st.none() | st.sampled_from(DIGESTS))
        request.if_etag = draw(st.none() | WORDS)
        request.unless_etag = draw(st.none() | WORDS)
    elif verb == "LIST":
        request.recursive = draw(st.booleans())
        request.content = draw(st.none() | NUMBERS)
        request.digest = draw(st.none() | st.sampled_from(DIGESTS)) if request.content is not None else None
    return request


@given(_requests())
def test_requests_survive(request_: Request) -> None:
    line = native.encode_request(request_)
    assert line.endswith(b"\n")
    assert same(native.decode_request(line[:-1]), request_)


@given(st.builds(Reply, st.sampled_from(Status), FIELDS, MESSAGES))
def test_replies_survive(reply: Reply) -> None:
    assert same(native.decode_reply(native.encode_reply(reply)[:-1]), reply)


@given(st.builds(Trailer, st.sampled_from(End), FIELDS, MESSAGES))
def test_trailers_survive(trailer: Trailer) -> None:
    assert same(native.decode_trailer(native.encode_trailer(trailer)[:-1]), trailer)


@given(st.builds(Entry, st.sampled_from(["file", "dir"]), NAMES, FIELDS))
def test_entries_survive(entry: Entry) -> None:
    assert same(native.decode_entry(native.encode_entry(entry)[:-1]), entry)


@given(st.integers(-(10**28) + 1, 10**28 - 1))
def test_any_time_survives(nanoseconds: int) -> None:
    assert native.decode_time(native.encode_time(nanoseconds)) == nanoseconds
