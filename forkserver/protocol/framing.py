"""Cut streams of bytes into messages: ``RequestStream`` for the server, ``ReplyStream`` for the client.

Both take bytes in pieces of any size and return one message at a time. Whatever the
bytes, the only exception that they raise is ``ProtocolError``; after one the stream is of no further use. Memory is
bounded: in the client by the room, in the server by one line plus the bytes that were fed last.
"""

from __future__ import annotations

from forkserver.protocol import native
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

ROOM_BYTES = 1 << 18
"""Most bytes that a client receives at once: they stay in the second-level cache until hashed and written."""
_FORMS = {"GET": "content", "LIST": "entries"}
"""Form of the rest of an answer after a reply of status 200, by verb."""
MAX_EARLY_TRAILER_BYTES = 256
"""Longest early trailer; see "The content of a GET, and its trailer" in docs/protocol.md."""


_TRAILER = b"FS1 "
"""Beginning of the line after a content. No line of a listing begins so."""
_EARLY = b"FS1 END "
"""Beginning of an early trailer, which stands in for the rest of a content."""
_TOO_MUCH = "it sent more content than it promised"


class RequestStream:
    """Server side of the native dialect: requests in, reply lines out."""

    unframed = False

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Add what the peer sent."""
        self._buffer += data

    @property
    def started(self) -> bool:
        """Whether a request has begun and is not complete."""
        return bool(self._buffer)

    @property
    def has_request(self) -> bool:
        """Whether ``next_request`` will return a request."""
        return b"\n" in self._buffer

    def next_request(self) -> Request | None:
        """Return the next request; None: it is not complete yet. Raises ProtocolError."""
        end = self._buffer.find(b"\n", 0, MAX_REQUEST_BYTES)
        if end < 0:
            if len(self._buffer) >= MAX_REQUEST_BYTES:
                raise ProtocolError(Status.TOO_LONG, "the request line is longer than 8192 bytes")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return native.decode_request(line)

    def end_of_file(self) -> None:
        """Note that the peer will send no more. Raises ProtocolError in the middle of a line."""
        if self._buffer:
            raise ProtocolError(Status.BAD_REQUEST, "the request was cut off before its line feed")

    def reply(self, reply: Reply) -> list[bytes]:
        """Return the bytes of a reply, in pieces that the peer must receive separately."""
        return [native.encode_reply(reply)]

    def trailer(self, trailer: Trailer) -> bytes:
        """Return the bytes that end a content."""
        return native.encode_trailer(trailer)

    def entry(self, entry: Entry) -> bytes:
        """Return the bytes of one line of a listing, without the content."""
        return native.encode_entry(entry)


class ReplyStream:
    """Client side: reply lines, contents, entries and trailers, in the order of the requests.

    The caller receives into ``room()``, then calls ``received`` with the number of bytes. A content is returned as a
    view into the buffer, also the content of an entry: the caller must use it before the next call of ``room``.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(ROOM_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._expected: list[str] = []
        self._state = "reply"
        self._content_left = 0
        self.content_seen = 0
        """Bytes of the last content that have come, including those that are held back."""
        self._ready: list[memoryview | Trailer] = []
        self._entry: Entry | None = None
        """An entry whose line is complete and whose content is not."""

    def expect(self, request: Request) -> None:
        """Note the next request, in order: the form of its answer follows from it."""
        form = _FORMS.get(request.verb, "reply")
        self._expected.append(form if request.content is None else "entries and contents")

    def room(self) -> memoryview:
        """Return the space for the next bytes; never empty after ``next_event`` returned None."""
        rest = self._end - self._start
        self._view[:rest] = self._view[self._start : self._end]
        self._start, self._end = 0, rest
        return self._view[rest:]

    def received(self, size_bytes: int) -> None:
        """Note that ``size_bytes`` were received at the beginning of ``room()``."""
        if self._state == "content":
            self.content_seen += min(size_bytes, self._content_left - self._held)
        self._end += size_bytes

    def next_event(self) -> Reply | Entry | Trailer | memoryview | None:
        """Return the next piece of an answer, content as ``memoryview``; None: receive more. Raises ProtocolError.

        The last MAX_EARLY_TRAILER_BYTES of a content are held back until a trailer shows where the content ends, so
        that no byte of an early trailer is returned as content. An early trailer has ``sent``, and is never ``ok``.
        """
        if self._ready:
            return self._ready.pop(0)
        if self._state == "content":
            return self._next_of_content()
        end = self._line_end(self._start)
        if end is None:
            return None
        if self._state != "reply" and not self._buffer.startswith(b"FS1 ", self._start, end):
            return self._next_entry(end)
        line = bytes(self._view[self._start : end - 1])
        self._start = end
        if self._state == "reply":
            return self._begin(native.decode_reply(line))
        self._state = "reply"
        return native.decode_trailer(line)

    def next_whole(self) -> tuple[Reply, memoryview, Trailer] | None:
        """Return reply, content and ``ok`` trailer of the next answer at once, if all of them are in the buffer.

        None: call ``next_event`` instead. None says nothing about the answer. Raises ProtocolError.
        """
        if self._state != "reply" or self._ready or not self._buffer.startswith(b"FS1 200 ok ", self._start, self._end):
            return None
        content = self._line_end(self._start)
        if content is None or self._expected[:1] != ["content"]:
            return None
        reply = native.decode_reply(bytes(self._view[self._start : content - 1]))
        length = native.decode_number(reply.fields.get("length", ""))
        trailer = content + length
        end = self._line_end(trailer) if trailer < self._end else None
        if end is None or not self._buffer.startswith(b"FS1 END ok", trailer, end):
            return None
        try:
            ending = native.decode_trailer(bytes(self._view[trailer : end - 1]))
        except ProtocolError:
            return None  # ``next_event`` returns reply and content first, then raises this error
        self._expected.pop(0)
        self._start = end
        self.content_seen = length
        return reply, self._view[content:trailer], ending

    def next_entries(self) -> list[Entry]:
        """Return the entries of a listing that are complete. Empty: call ``next_event`` instead."""
        if self._state == "entries and contents":
            return self._next_with_contents()
        entries: list[Entry] = []
        if self._state == "entries":
            end = self._buffer.rfind(b"\n", self._start, self._end)
            lines = bytes(self._view[self._start : end]).split(b"\n") if end >= 0 else []
            for line in lines:
                if line.startswith(b"FS1 ") or len(line) >= MAX_REPLY_BYTES:
                    break
                try:
                    entries.append(native.decode_entry(line))
                except ProtocolError:
                    break
                self._start += len(line) + 1
        return entries

    def _next_with_contents(self) -> list[Entry]:
        entries: list[Entry] = []
        try:
            while (end := self._line_end(self._start)) and not self._buffer.startswith(b"FS1 ", self._start, end):
                entry = self._next_entry(end)
                if entry is None:
                    break
                entries.append(entry)
        except ProtocolError:
            pass  # ``next_event`` raises it again
        return entries

    def _next_entry(self, end: int) -> Entry | None:
        """Return the entry whose line ends before ``end``, with its content; None: the content is not complete."""
        # Decode the line only once, even if the content comes in many pieces.
        entry = self._entry or native.decode_entry(bytes(self._view[self._start : end - 1]))
        self._entry = None
        if self._state == "entries and contents" and "length" in entry.fields:
            length = native.decode_number(entry.fields["length"])
            if length > MAX_LISTED_BYTES:
                raise ProtocolError(Status.BAD_REQUEST, "the content of an entry is longer than 16384 bytes")
            if self._end - end < length:
                self._entry = entry
                return None
            entry.content = self._view[end : end + length]
            end += length
        self._start = end
        return entry

    def end_of_file(self) -> None:
        """Note that the server will send no more. After that ``next_event`` returns what was held back, until None.

        Raises ProtocolError if the last answer is not complete, and no early trailer gives the reason.
        """
        if self._state == "content" and self._held == self._end - self._start:
            self._end_early(self._end, "the connection ended in the middle of the content")
            self._expected.clear()
        elif self._expected or self._state != "reply" or self._start != self._end:
            raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of an answer")

    @property
    def _held(self) -> int:
        """Bytes of the content that have come and were not returned."""
        return min(self._end - self._start, self._content_left)

    def _begin(self, reply: Reply) -> Reply:
        if not self._expected:
            raise ProtocolError(Status.BAD_REQUEST, "the server answered what was not asked")
        form = self._expected.pop(0)
        if reply.status is Status.OK:
            self._state = form
            if form == "content":
                self._content_left = native.decode_number(reply.fields.get("length", ""))
                self.content_seen = self._held
        return reply

    def _next_of_content(self) -> memoryview | Trailer | None:
        line_start = self._start + self._content_left
        if line_start < self._end and not self._may_be_trailer(line_start):
            raise ProtocolError(Status.BAD_REQUEST, _TOO_MUCH)
        line_end = self._line_end(line_start) if self._held == self._content_left else None
        if line_end is None:
            spare = self._held - MAX_EARLY_TRAILER_BYTES
            return self._take_content(spare) if spare > 0 else None
        if self._buffer.startswith(b"FS1 ", line_start, line_end):
            line = bytes(self._view[line_start : line_end - 1])
            self._end_content(self._content_left, native.decode_trailer(line), line_end)
        else:
            # The beginning of an early trailer filled up the content: fewer bytes were missing than that trailer has.
            self._end_early(line_end, _TOO_MUCH)
        return self._ready.pop(0)

    def _end_early(self, end: int, complaint: str) -> None:
        """Find the early trailer that begins in the held bytes and ends at ``end``. Raises ProtocolError."""
        tail = bytes(self._view[self._start : end])
        size_bytes = tail.rfind(_EARLY)
        if 0 <= size_bytes < self._held and tail.endswith(b"\n"):
            trailer = native.decode_trailer(tail[size_bytes:-1])
            sent = native.decode_number(trailer.fields.get("sent", ""))
            # A file may contain such a line. A real one stands where its ``sent`` says, and is never ``ok``.
            if trailer.end is not End.OK and sent == self.content_seen - (self._held - size_bytes):
                self._end_content(size_bytes, trailer, end)
                return
        raise ProtocolError(Status.BAD_REQUEST, complaint)

    def _may_be_trailer(self, line_start: int) -> bool:
        """Return whether the bytes after the content, from ``line_start`` on, can be a trailer or end an early one."""
        behind = bytes(self._view[line_start : min(line_start + len(_EARLY), self._end)])
        if behind.startswith(_TRAILER) or _TRAILER.startswith(behind):
            return True
        # An early trailer begins within the content. At first even its beginning is not complete.
        begun = bytes(self._view[max(line_start - MAX_EARLY_TRAILER_BYTES, self._start) : line_start]) + behind
        return _EARLY in begun or any(begun.endswith(_EARLY[:size]) for size in range(len(behind) + 1, len(_EARLY)))

    def _end_content(self, size_bytes: int, trailer: Trailer, end: int) -> None:
        """Make the last ``size_bytes`` of the content and the trailer, which ends at ``end``, the next events."""
        self._state = "reply"
        self._ready = [self._take_content(size_bytes), trailer] if size_bytes else [trailer]
        self._start = end

    def _take_content(self, size_bytes: int) -> memoryview:
        start = self._start
        self._start += size_bytes
        self._content_left -= size_bytes
        return self._view[start : self._start]

    def _line_end(self, start: int) -> int | None:
        """Return the end of the line that begins at ``start``, after its line feed; None: not here yet.

        Raises ProtocolError.
        """
        found = self._buffer.find(b"\n", start, min(start + MAX_REPLY_BYTES, self._end))
        if found < 0 and self._end - start >= MAX_REPLY_BYTES:
            raise ProtocolError(Status.TOO_LONG, "the server's line is longer than 16384 bytes")
        return found + 1 if found >= 0 else None
