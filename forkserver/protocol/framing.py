"""Streams of bytes cut into messages: ``RequestStream`` for the server, ``ReplyStream`` for the client.

Both are fed what the socket gave, in pieces of any size, and hand out one message at a time. They raise
``ProtocolError`` and nothing else, whatever the bytes; after it they are of no further use. Memory is bounded by one
line plus what was fed last.
"""

from __future__ import annotations

from forkserver.protocol import native
from forkserver.protocol.messages import (
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

MAX_EARLY_TRAILER_BYTES = 256
"""Longest trailer that may stand in for content; see "The content of a GET, and its trailer"."""


class RequestStream:
    """The server's half of the native dialect: requests in, reply lines out."""

    unframed = False

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what the peer sent."""
        self._buffer += data

    @property
    def started(self) -> bool:
        """Whether part of a request waits for its rest."""
        return bool(self._buffer)

    def next_request(self) -> Request | None:
        """The next request, or None if it is not complete yet. Raises ProtocolError."""
        line = _take_line(self._buffer, MAX_REQUEST_BYTES, "the request line is longer than 8192 bytes")
        return None if line is None else native.decode_request(line)

    def end_of_file(self) -> None:
        """The peer will send no more. Raises ProtocolError if it stopped in the middle of a line."""
        if self._buffer:
            raise ProtocolError(Status.BAD_REQUEST, "the request was cut off before its line feed")

    def reply(self, reply: Reply) -> list[bytes]:
        """The bytes of a reply, in pieces that the peer must receive one after the other."""
        return [native.encode_reply(reply)]

    def trailer(self, trailer: Trailer) -> bytes:
        """The bytes that end a content."""
        return native.encode_trailer(trailer)

    def entry(self, entry: Entry) -> bytes:
        """The bytes of one line of a listing."""
        return native.encode_entry(entry)


class ReplyStream:
    """The client's half: reply lines, contents, entries and trailers, in the order of the requests."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected: list[str] = []
        self._state = "reply"
        self._content_left = 0
        self._content_seen = 0
        self._tail = b""

    def expect(self, request: Request) -> None:
        """Tell what was asked, in order; the form of an answer follows from the verb."""
        self._expected.append(request.verb)

    def feed(self, data: bytes) -> None:
        """Take what the server sent."""
        self._buffer += data

    def next_event(self) -> Reply | Entry | Trailer | bytes | None:
        """The next piece of an answer: ``bytes`` is content. None: feed more. Raises ProtocolError.

        An early trailer (one with ``sent``, from here or from ``end_of_file``) was at first taken for content, whole or
        in part: of the bytes given for this answer only the first ``sent`` are the file's.
        """
        if self._state == "content":
            return self._next_content()
        line = _take_line(self._buffer, MAX_REPLY_BYTES, "the server's line is longer than 16384 bytes")
        if line is None:
            return None
        if self._state == "reply":
            return self._begin(native.decode_reply(line))
        if self._state == "entries" and not line.startswith(b"FS1 "):
            return native.decode_entry(line)
        from_content = self._state == "trailer" and not line.startswith(b"FS1 ")
        self._state = "reply"
        # Where fewer bytes are missing than an early trailer has, its beginning has filled the content up.
        return self._early_trailer(line + b"\n") if from_content else native.decode_trailer(line)

    def end_of_file(self) -> Trailer | None:
        """The server will send no more. None: every answer is complete.

        Returns the early trailer where a content was broken off with its reason; see ``next_event`` for its ``sent``.
        Raises ProtocolError for any other break.
        """
        if self._state in ("content", "trailer") and not self._buffer:
            return self._early_trailer(b"")
        if self._expected or self._state != "reply" or self._buffer:
            raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of an answer")
        return None

    def _begin(self, reply: Reply) -> Reply:
        if not self._expected:
            raise ProtocolError(Status.BAD_REQUEST, "the server answered what was not asked")
        verb = self._expected.pop(0)
        if reply.status is Status.OK and verb == "LIST":
            self._state = "entries"
        elif reply.status is Status.OK and verb == "GET":
            self._content_left = native.decode_number(reply.fields.get("length", ""))
            self._content_seen = 0
            self._tail = b""
            self._state = "content" if self._content_left else "trailer"
        return reply

    def _next_content(self) -> bytes | None:
        if not self._buffer:
            return None
        data = bytes(self._buffer[: self._content_left])
        del self._buffer[: len(data)]
        self._content_left -= len(data)
        self._content_seen += len(data)
        self._tail = (self._tail + data[-MAX_EARLY_TRAILER_BYTES:])[-MAX_EARLY_TRAILER_BYTES:]
        if not self._content_left:
            self._state = "trailer"
        return data

    def _early_trailer(self, rest: bytes) -> Trailer:
        """The trailer that begins in the content and ends with ``rest``. Raises ProtocolError if there is none."""
        tail = self._tail + rest
        start = tail.rfind(b"FS1 END ")
        if start >= 0 and tail.endswith(b"\n"):
            trailer = native.decode_trailer(tail[start:-1])
            sent = native.decode_number(trailer.fields.get("sent", ""))
            # A file may end in such a line: it must stand where it says, and nothing early is ever "ok".
            if trailer.end is not End.OK and sent == self._content_seen - (len(self._tail) - start):
                return trailer
        raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of the content")


def _take_line(buffer: bytearray, limit: int, complaint: str) -> bytes | None:
    end = buffer.find(b"\n", 0, limit)
    if end < 0:
        if len(buffer) >= limit:
            raise ProtocolError(Status.TOO_LONG, complaint)
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    return line
