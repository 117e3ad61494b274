"""docs/protocol.md is the norm: its examples go through the parsers, its tables must equal the code's."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from forkserver.protocol import native
from forkserver.protocol.framing import ReplyStream, RequestStream
from forkserver.protocol.messages import (
    CLOSING,
    DIGESTS,
    MAX_REPLY_BYTES,
    MAX_REQUEST_BYTES,
    VERBS,
    End,
    Entry,
    ProtocolError,
    Reply,
    Request,
    Status,
    Trailer,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```exchange\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)

Event = Reply | Entry | Trailer | bytes


def raw(text: str) -> bytes:
    r"""The bytes of an ``S|`` line: ``\n``, ``\xHH`` and ``\\`` are escapes."""
    values = {"n": "\n", "\\": "\\"}
    return re.sub(
        r"\\(?:x([0-9a-f]{2})|(.))", lambda found: chr(int(found[1], 16)) if found[1] else values[found[2]], text
    ).encode("latin-1")


def sides(block: str) -> tuple[list[bytes], bytes]:
    """What the client sends, line by line, and what the server sends."""
    client: list[bytes] = []
    server = b""
    for line in block.splitlines():
        kind, text = line[:3], line[3:]
        if kind == "C: ":
            client.append(text.encode() + b"\n")
        elif kind == "S: ":
            server += text.encode() + b"\n"
        else:
            assert kind == "S| ", line
            server += raw(text)
    return client, server


def requests(client: list[bytes]) -> list[Request]:
    """What the client asks; a line that is no request counts as a PING, whose answer is one line too."""
    found = []
    for line in client:
        try:
            found.append(native.decode_request(line[:-1]))
        except ProtocolError:
            found.append(Request("PING"))
    return found


def events(asked: list[Request], server: bytes, piece: int) -> list[Event]:
    """What the server says, fed in pieces of ``piece`` bytes to a client; contents are joined."""
    stream = ReplyStream()
    for request in asked:
        stream.expect(request)
    found: list[Event] = []
    for start in range(0, len(server), piece):
        taken = server[start : start + piece]
        stream.room()[: len(taken)] = taken
        stream.received(len(taken))
        take_events(stream, found)
    stream.end_of_file()
    take_events(stream, found)
    return found


def take_events(stream: ReplyStream, found: list[Event]) -> None:
    while (given := stream.next_event()) is not None:
        event = bytes(given) if isinstance(given, memoryview) else given
        if isinstance(event, Entry) and event.content is not None:
            event.content = bytes(event.content)  # it holds until the next bytes come
        last = found[-1] if found else None
        if isinstance(event, bytes) and isinstance(last, bytes):
            found[-1] = last + event
        else:
            found.append(event)


def encoded(event: Event) -> bytes:
    if isinstance(event, Reply):
        return native.encode_reply(event)
    if isinstance(event, Entry):
        return native.encode_entry(event) + bytes(event.content or b"")
    if isinstance(event, Trailer):
        return native.encode_trailer(event)
    return event


def check_content(entry: Entry) -> None:
    assert (entry.content is None) == ("length" not in entry.fields)
    if entry.content is not None:
        assert entry.fields["length"] == entry.fields["size"] == str(len(entry.content))
        check_digest(entry.fields.get("digest"), bytes(entry.content))


def check_digest(word: str | None, content: bytes) -> None:
    if word is not None:
        algorithm, _, value = word.partition(":")
        assert hashlib.new(algorithm, content).hexdigest() == value


def table(*heading: str) -> list[list[str]]:
    """The rows of the table whose first cells are ``heading``, cells without quotes."""
    start = DOCUMENT.index("| " + " | ".join(heading) + " |")
    rows = DOCUMENT[start : DOCUMENT.index("\n\n", start)].splitlines()[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


def test_there_are_examples() -> None:
    assert len(BLOCKS) >= 6
    assert DOCUMENT.count("```exchange\n") == len(BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bytewise"])
def test_requests_are_read_and_written_as_shown(block: str, whole: bool) -> None:
    client, server = sides(block)
    stream = RequestStream()
    pieces = [b"".join(client)] if whole else [bytes((byte,)) for line in client for byte in line]
    written = []
    try:
        for piece in pieces:
            stream.feed(piece)
            while request := stream.next_request():
                written.append(native.encode_request(request))
    except ProtocolError as error:
        # Then the answer shown is the one to this complaint, word for word.
        *_, answer = events(requests(client), server, len(server))
        assert isinstance(answer, Reply)
        assert (answer.status, answer.message) == (error.status, error.message)
        assert written == client[:-1]
    else:
        assert written == client
        stream.end_of_file()


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_answers_are_read_and_written_as_shown(block: str) -> None:
    client, server = sides(block)
    found = events(requests(client), server, len(server))
    assert b"".join(map(encoded, found)) == server
    for piece in (1, 2, 7, 64):
        assert list(map(encoded, events(requests(client), server, piece))) == list(map(encoded, found))


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_contents_are_as_long_as_announced_and_digests_are_right(block: str) -> None:
    client, server = sides(block)
    found = events(requests(client), server, len(server))
    reply, content = None, b""
    for event in found:
        if isinstance(event, Reply):
            reply, content = event, b""
        elif isinstance(event, bytes):
            content = event
        elif isinstance(event, Entry):
            check_content(event)
        elif isinstance(event, Trailer) and reply and "length" in reply.fields:
            assert len(content) == int(event.fields.get("sent", reply.fields["length"]))
            check_digest(event.fields.get("digest"), content)
        elif isinstance(event, Trailer):
            assert int(event.fields["entries"]) == sum(isinstance(each, Entry) for each in found)


def test_the_examples_show_a_digest_and_an_early_end() -> None:
    trailers = [event for block in BLOCKS for event in events(requests(sides(block)[0]), sides(block)[1], 9999)]
    assert any(isinstance(event, Trailer) and "digest" in event.fields for event in trailers)
    assert any(isinstance(event, Trailer) and "sent" in event.fields for event in trailers)


def test_the_status_table_is_the_code_s() -> None:
    rows = table("number", "word", "meaning", "connection")
    assert [(int(number), word) for number, word, *_ in rows] == [(status.value, status.word) for status in Status]
    assert {Status(int(row[0])) for row in rows if row[-1] == "closes"} == CLOSING
    assert {row[-1] for row in rows} == {"closes", "stays"}


def test_the_words_of_the_trailer_are_the_code_s() -> None:
    assert [row[0] for row in table("word", "all bytes sent?")] == [end.value for end in End]


def test_the_verbs_and_their_fields_are_the_code_s() -> None:
    rows = table("verb", "fields", "answer")
    assert [row[0].split()[0] for row in rows] == list(VERBS)
    values = {"digest": "sha256", "recursive": "1"}
    every = {field.partition("=")[0] for row in rows for field in re.findall(r"[a-z-]+(?:=1)?", row[1])} - {"none"}
    assert every == {"offset", "length", "digest", "if-etag", "unless-etag", "recursive", "content"}
    for usage, fields, _ in rows:
        for field in every:
            line = f"{usage.replace('name', '/name')} {field}={values.get(field, '1')}".encode()
            if field in re.findall(r"[a-z-]+", fields):
                # Of a STAT, a range is that of a digest; of a LIST, a digest is that of contents.
                line += b" digest=sha256" * (field in ("offset", "length")) + b" content=1" * (
                    usage == "LIST name" and field == "digest"
                )
                native.decode_request(line)
            else:
                with pytest.raises(ProtocolError, match="unknown field"):
                    native.decode_request(line)


def test_the_limits_are_the_code_s() -> None:
    assert f"A request line is at most **{MAX_REQUEST_BYTES:,} bytes**" in DOCUMENT
    assert f"A reply line is at most **{MAX_REPLY_BYTES:,} bytes**" in DOCUMENT
    assert all(f"`{digest}`" in DOCUMENT for digest in DIGESTS)
