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
        self.content_seen = 0
        """Bytes of the last content that have come, those held back among them."""
        self._held = b""
        self._ready: list[bytes | Trailer] = []

    def expect(self, request: Request) -> None:
        """Tell what was asked, in order; the form of an answer follows from the verb."""
        self._expected.append(request.verb)

    def feed(self, data: bytes) -> None:
        """Take what the server sent."""
        self._buffer += data

    def next_event(self) -> Reply | Entry | Trailer | bytes | None:
        """The next piece of an answer: ``bytes`` is content. None: feed more. Raises ProtocolError.

        The last MAX_EARLY_TRAILER_BYTES of a content are held back until a trailer shows where the content ends: no
        byte of an early trailer is ever given for one. Such a trailer has ``sent``, and is never ``ok``.
        """
        if self._ready:
            return self._ready.pop(0)
        if self._state == "content":
            content = self._next_content()
            if content or self._state == "content":
                return content
        line = _take_line(self._buffer, MAX_REPLY_BYTES, "the server's line is longer than 16384 bytes")
        if line is None:
            return None
        if self._state == "reply":
            return self._begin(native.decode_reply(line))
        if line.startswith(b"FS1 "):
            self._end(self._held, native.decode_trailer(line))
        elif self._state == "entries":
            return native.decode_entry(line)
        else:
            # Fewer bytes were missing than an early trailer has: its beginning has filled the content up.
            self._end_early(self._held + line + b"\n")
        return self._ready.pop(0)

    def end_of_file(self) -> None:
        """The server will send no more. After it ``next_event`` has what was held back, until None.

        Raises ProtocolError if the last answer is not complete, and no early trailer gives the reason.
        """
        if self._state in ("content", "trailer") and not self._buffer:
            self._end_early(self._held)
            self._expected.clear()
        elif self._expected or self._state != "reply" or self._buffer:
            raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of an answer")

    def _begin(self, reply: Reply) -> Reply:
        if not self._expected:
            raise ProtocolError(Status.BAD_REQUEST, "the server answered what was not asked")
        verb = self._expected.pop(0)
        if reply.status is Status.OK and verb == "LIST":
            self._state = "entries"
        elif reply.status is Status.OK and verb == "GET":
            self._content_left = native.decode_number(reply.fields.get("length", ""))
            self.content_seen = 0
            self._held = b""
            self._state = "content" if self._content_left else "trailer"
        return reply

    def _next_content(self) -> bytes | None:
        size = min(len(self._buffer), self._content_left)
        fresh = max(0, size - MAX_EARLY_TRAILER_BYTES)
        with memoryview(self._buffer) as view:
            if fresh:
                content, self._held = b"".join((self._held, view[:fresh])), bytes(view[fresh:size])
            else:
                held = self._held + view[:size]
                content, self._held = held[:-MAX_EARLY_TRAILER_BYTES], held[-MAX_EARLY_TRAILER_BYTES:]
        del self._buffer[:size]
        self._content_left -= size
        self.content_seen += size
        if not self._content_left:
            self._state = "trailer"
        return content or None

    def _end_early(self, tail: bytes) -> None:
        """Find the early trailer at the end of ``tail``, which begins with what is held. Raises ProtocolError."""
        start = tail.rfind(b"FS1 END ")
        if 0 <= start < len(self._held) and tail.endswith(b"\n"):
            trailer = native.decode_trailer(tail[start:-1])
            sent = native.decode_number(trailer.fields.get("sent", ""))
            # A file may end in such a line: it must stand where it says, and nothing early is ever "ok".
            if trailer.end is not End.OK and sent == self.content_seen - (len(self._held) - start):
                self._end(tail[:start], trailer)
                return
        raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of the content")

    def _end(self, content: bytes, trailer: Trailer) -> None:
        self._state = "reply"
        self._held = b""
        self._ready = [content, trailer] if content else [trailer]


def _take_line(buffer: bytearray, limit: int, complaint: str) -> bytes | None:
    end = buffer.find(b"\n", 0, limit)
    if end < 0:
        if len(buffer) >= limit:
            raise ProtocolError(Status.TOO_LONG, complaint)
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    return line
