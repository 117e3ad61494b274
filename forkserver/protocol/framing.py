"""Streams of bytes cut into messages: ``RequestStream`` for the server, ``ReplyStream`` for the client.

Both take what the socket gave, in pieces of any size, and hand out one message at a time. They raise ``ProtocolError``
and nothing else, whatever the bytes; after it they are of no further use. Memory is bounded: the client's by its room,
the server's by one line plus what was fed last.
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
"""A client takes so much at a time: it stays in the processor's second cache until it is hashed and written."""
_FORMS = {"GET": "content", "LIST": "entries"}
"""What follows a reply of 200, if anything does."""
MAX_EARLY_TRAILER_BYTES = 256
"""Longest trailer that may stand in for content; see "The content of a GET, and its trailer"."""


_TRAILER = b"FS1 "
"""What the line behind a content begins with, and no line of a listing."""
_EARLY = b"FS1 END "
"""What a trailer begins with that may stand in for the rest of a content."""
_TOO_MUCH = "it sent more content than it promised"


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

    @property
    def has_request(self) -> bool:
        """Whether ``next_request`` will not give None."""
        return b"\n" in self._buffer

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
        """The bytes of one line of a listing, its content not among them."""
        return native.encode_entry(entry)


class ReplyStream:
    """The client's half: reply lines, contents, entries and trailers, in the order of the requests.

    What the server sent is put into ``room``, and ``received`` tells how much that was. A content is handed out where
    it stands, without being copied, that of an entry, too: it must be used before ``room`` is asked for again.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(ROOM_BYTES)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0
        self._expected: list[str] = []
        self._state = "reply"
        self._content_left = 0
        self.content_seen = 0
        """Bytes of the last content that have come, those held back among them."""
        self._ready: list[memoryview | Trailer] = []
        self._entry: Entry | None = None
        """Its line is here, its content is not."""

    def expect(self, request: Request) -> None:
        """Tell what was asked, in order; the form of an answer follows from that."""
        form = _FORMS.get(request.verb, "reply")
        self._expected.append(form if request.content is None else "entries and contents")

    def room(self) -> memoryview:
        """Where the next bytes belong; never empty after ``next_event`` has given None."""
        rest = self._end - self._start
        self._view[:rest] = self._view[self._start : self._end]
        self._start, self._end = 0, rest
        return self._view[rest:]

    def received(self, size_bytes: int) -> None:
        """Take what the server sent: so many bytes at the beginning of ``room``."""
        if self._state == "content":
            self.content_seen += min(size_bytes, self._content_left - self._held)
        self._end += size_bytes

    def next_event(self) -> Reply | Entry | Trailer | memoryview | None:
        """The next piece of an answer: ``memoryview`` is content. None: more is to be received. Raises ProtocolError.

        The last MAX_EARLY_TRAILER_BYTES of a content are held back until a trailer shows where the content ends: no
        byte of an early trailer is ever given for one. Such a trailer has ``sent``, and is never ``ok``.
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
        """The next answer, if it is a content that went well and is here to its end: several events at once.

        None is no sign of anything: all else is left to ``next_event``. Raises ProtocolError.
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
            return None  # ``next_event`` gives the reply and the content first, and then raises this error.
        self._expected.pop(0)
        self._start = end
        self.content_seen = length
        return reply, self._view[content:trailer], ending

    def next_entries(self) -> list[Entry]:
        """As many entries of a listing as are here; none is no sign of anything. All else is left to ``next_event``."""
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
            pass  # ``next_event`` meets it again
        return entries

    def _next_entry(self, end: int) -> Entry | None:
        """The entry whose line ends before ``end``, with its content; None if that is not here yet."""
        # Read once, in however many pieces its content comes.
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
        """The server will send no more. After it ``next_event`` has what was held back, until None.

        Raises ProtocolError if the last answer is not complete, and no early trailer gives the reason.
        """
        if self._state == "content" and self._held == self._end - self._start:
            self._end_early(self._end, "the connection ended in the middle of the content")
            self._expected.clear()
        elif self._expected or self._state != "reply" or self._start != self._end:
            raise ProtocolError(Status.BAD_REQUEST, "the connection ended in the middle of an answer")

    @property
    def _held(self) -> int:
        """Bytes of the content that have come and were not handed out."""
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
            # Fewer bytes were missing than an early trailer has: its beginning has filled the content up.
            self._end_early(line_end, _TOO_MUCH)
        return self._ready.pop(0)

    def _end_early(self, end: int, complaint: str) -> None:
        """Find the early trailer before ``end``, which begins in what is held. Raise ProtocolError if there is none."""
        tail = bytes(self._view[self._start : end])
        size_bytes = tail.rfind(_EARLY)
        if 0 <= size_bytes < self._held and tail.endswith(b"\n"):
            trailer = native.decode_trailer(tail[size_bytes:-1])
            sent = native.decode_number(trailer.fields.get("sent", ""))
            # A file may end in such a line: it must stand where it says, and nothing early is ever "ok".
            if trailer.end is not End.OK and sent == self.content_seen - (self._held - size_bytes):
                self._end_content(size_bytes, trailer, end)
                return
        raise ProtocolError(Status.BAD_REQUEST, complaint)

    def _may_be_trailer(self, line_start: int) -> bool:
        """Whether the bytes behind the whole content, from ``line_start`` on, can be a trailer or end an early one."""
        behind = bytes(self._view[line_start : min(line_start + len(_EARLY), self._end)])
        if behind.startswith(_TRAILER) or _TRAILER.startswith(behind):
            return True
        # An early trailer begins within the content. As long as few bytes came, even its beginning is not complete.
        begun = bytes(self._view[max(line_start - MAX_EARLY_TRAILER_BYTES, self._start) : line_start]) + behind
        return _EARLY in begun or any(begun.endswith(_EARLY[:size]) for size in range(len(behind) + 1, len(_EARLY)))

    def _end_content(self, size_bytes: int, trailer: Trailer, end: int) -> None:
        """The last ``size_bytes`` of the content, and its trailer, which stands before ``end``."""
        self._state = "reply"
        self._ready = [self._take_content(size_bytes), trailer] if size_bytes else [trailer]
        self._start = end

    def _take_content(self, size_bytes: int) -> memoryview:
        start = self._start
        self._start += size_bytes
        self._content_left -= size_bytes
        return self._view[start : self._start]

    def _line_end(self, start: int) -> int | None:
        """Where the line ends that begins at ``start``, its line feed included. Raises ProtocolError."""
        found = self._buffer.find(b"\n", start, min(start + MAX_REPLY_BYTES, self._end))
        if found < 0 and self._end - start >= MAX_REPLY_BYTES:
            raise ProtocolError(Status.TOO_LONG, "the server's line is longer than 16384 bytes")
        return found + 1 if found >= 0 else None


def _take_line(buffer: bytearray, limit: int, complaint: str) -> bytes | None:
    end = buffer.find(b"\n", 0, limit)
    if end < 0:
        if len(buffer) >= limit:
            raise ProtocolError(Status.TOO_LONG, complaint)
        return None
    line = bytes(buffer[:end])
    del buffer[: end + 1]
    return line
