"""Grammar of the native protocol: decode a line to a message, encode a message to a line. Runs on both sides.

Every ``decode_*`` function takes a line without its line feed. Whatever the bytes, the only exception that it raises is
``ProtocolError``. The ``encode_*`` functions trust the caller: the values of fields must be words without spaces.
"""

from __future__ import annotations

from forkserver.protocol.messages import (
    DIGESTS,
    VERBS,
    End,
    Entry,
    ProtocolError,
    Reply,
    Request,
    Status,
    Trailer,
)

_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/!$&'()*+,;=:@")
_PLAIN_BYTES = bytes(_PLAIN)
_ENCODED = tuple(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in range(256))
_HEX = frozenset(b"0123456789abcdefABCDEF")
_LINE = bytes(range(0x20, 0x7F))
_MAX_DIGITS = 19
_MAX_ETAG = 128
_FIELDS = {
    "GET": frozenset({"offset", "length", "digest", "if-etag", "unless-etag"}),
    "STAT": frozenset({"offset", "length", "digest", "if-etag"}),
    "LIST": frozenset({"recursive", "content", "digest"}),
    "PING": frozenset[str](),
}
_STATUSES = {(status.digits, status.word): status for status in Status}
_ENDS = {end.word: end for end in End}


def encode_name(name: bytes) -> str:
    """Percent-encode arbitrary bytes (RFC 3986 section 2.1), except ``/``."""
    if not name.translate(None, _PLAIN_BYTES):
        return name.decode("ascii")
    return "".join([_ENCODED[byte] for byte in name])


def decode_name(word: str) -> bytes:
    """Decode what ``encode_name`` encoded. Raises ProtocolError for a ``%`` without two hexadecimal digits."""
    head, *escaped = word.encode("ascii").split(b"%")
    if not escaped:
        return head
    parts = [head]
    for part in escaped:
        if len(part) < 2 or part[0] not in _HEX or part[1] not in _HEX:  # noqa: PLR2004 - two digits
            raise _bad("% in a name must be followed by two hexadecimal digits")
        parts += (bytes((int(part[:2], 16),)), part[2:])
    return b"".join(parts)


def decode_request(line: bytes) -> Request:
    """Decode a request line."""
    verb, *words = _words(line)
    if verb not in VERBS:
        raise _bad("unknown verb: GET, STAT, LIST and PING are known")
    request = Request(verb)
    if verb != "PING":
        if not words or not words[0].startswith("/"):
            raise _bad("the verb must be followed by a name that begins with a slash")
        request.name = decode_name(words.pop(0))
    for key, value in _fields(words).items():
        if key not in _FIELDS[verb]:
            raise _bad("unknown field for this verb")
        _set_field(request, key, value)
    if verb == "STAT" and request.digest is None and (request.offset or request.length is not None):
        raise _bad("offset and length of a STAT belong to a digest")
    if verb == "LIST" and request.digest is not None and request.content is None:
        raise _bad("the digest of a LIST belongs to content")
    return request


def _set_field(request: Request, key: str, value: str) -> None:
    if key == "offset":
        request.offset = decode_number(value)
    elif key == "length":
        request.length = decode_number(value)
    elif key == "content":
        request.content = decode_number(value)
    elif key == "digest":
        if value not in DIGESTS:
            raise _bad("unknown digest: ask PING for those known")
        request.digest = value
    elif key == "recursive":
        if value != "1":
            raise _bad("recursive takes the value 1 or is left out")
        request.recursive = True
    elif not 0 < len(value) <= _MAX_ETAG:
        raise _bad("an etag has 1 to 128 characters")
    elif key == "if-etag":
        request.if_etag = value
    else:
        request.unless_etag = value


def encode_request(request: Request) -> bytes:
    """Encode a request line, line feed included. The caller checks the length against MAX_REQUEST_BYTES."""
    words = [request.verb]
    if request.verb != "PING":
        words.append(encode_name(request.name))
    if request.offset:
        words.append(f"offset={request.offset}")
    if request.length is not None:
        words.append(f"length={request.length}")
    if request.content is not None:
        words.append(f"content={request.content}")
    if request.digest:
        words.append(f"digest={request.digest}")
    if request.if_etag:
        words.append(f"if-etag={request.if_etag}")
    if request.unless_etag:
        words.append(f"unless-etag={request.unless_etag}")
    if request.recursive:
        words.append("recursive=1")
    return (" ".join(words) + "\n").encode("ascii")


def encode_reply(reply: Reply) -> bytes:
    """Encode a reply line, line feed included."""
    return _line(f"FS1 {reply.status.digits} {reply.status.word}", reply.fields, reply.message)


def decode_reply(line: bytes) -> Reply:
    """Decode a reply line. Its number and its word must be a row of the status table."""
    words, message = _split_message(line)
    if words[0] != "FS1":
        raise _bad("this is not a forkserver's reply")
    status = _STATUSES.get((words[1], words[2])) if len(words) > 2 else None  # noqa: PLR2004 - FS1, number, word
    if status is None:
        raise _bad("the reply has an unknown status")
    return Reply(status, _fields(words[3:]), message)


def encode_trailer(trailer: Trailer) -> bytes:
    """Encode a trailer line, line feed included."""
    return _line(f"FS1 END {trailer.end.word}", trailer.fields, trailer.message)


def decode_trailer(line: bytes) -> Trailer:
    """Decode a trailer line."""
    words, message = _split_message(line)
    end = _ENDS.get(words[2]) if words[:2] == ["FS1", "END"] and len(words) > 2 else None  # noqa: PLR2004 - FS1, END, word
    if end is None:
        raise _bad("a trailer was due")
    return Trailer(end, _fields(words[3:]), message)


def encode_entry(entry: Entry) -> bytes:
    """Encode a line of a listing, line feed included. The caller sends the content, if there is one, after it."""
    return _line(f"{entry.kind} {encode_name(entry.name)}", entry.fields, "")


def decode_entry(line: bytes) -> Entry:
    """Decode a line of a listing."""
    words = _words(line)
    if words[0] not in ("file", "dir") or len(words) == 1 or not words[1].startswith("/"):
        raise _bad("an entry of a listing was due")
    return Entry(words[0], decode_name(words[1]), _fields(words[2:]))


def encode_time(nanoseconds: int) -> str:
    """Return nanoseconds since 1970 as seconds with nine decimals, exactly."""
    sign = "-" if nanoseconds < 0 else ""
    seconds, rest = divmod(abs(nanoseconds), 1_000_000_000)
    return f"{sign}{seconds}.{rest:09d}"


def decode_time(word: str) -> int:
    """Return the nanoseconds that ``encode_time`` encoded. Raises ProtocolError."""
    digits = word.removeprefix("-")
    seconds, _, rest = digits.partition(".")
    # isdecimal() alone would accept digits of other scripts.
    if not (len(rest) == 9 and 0 < len(seconds) <= _MAX_DIGITS and word.isascii() and (seconds + rest).isdecimal()):  # noqa: PLR2004 - nine decimals
        raise _bad("a time is seconds, a dot and nine decimals")
    nanoseconds = int(seconds + rest)
    return nanoseconds if digits is word else -nanoseconds


def decode_number(word: str) -> int:
    """Return the number that 1 to 19 decimal digits stand for. Raises ProtocolError."""
    # isdecimal() alone would accept digits of other scripts.
    if not (word.isascii() and word.isdecimal() and len(word) <= _MAX_DIGITS):
        raise _bad("a number has 1 to 19 decimal digits and no sign")
    return int(word)


def _bad(message: str) -> ProtocolError:
    return ProtocolError(Status.BAD_REQUEST, message)


def _words(line: bytes) -> list[str]:
    if not line:
        raise _bad("the line is empty")
    if line.translate(None, _LINE):
        raise _bad("only printable ASCII is allowed; percent-encode every other byte")
    words = line.decode("ascii").split(" ")
    if "" in words:
        raise _bad("tokens are separated by exactly one space")
    return words


def _fields(words: list[str]) -> dict[str, str]:
    try:
        fields: dict[str, str] = dict([word.split("=", 1) for word in words])
    except ValueError:
        raise _bad("a field has the form key=value") from None
    if len(fields) != len(words):
        raise _bad("a field is given twice")
    return fields


def _split_message(line: bytes) -> tuple[list[str], str]:
    """Split a line into its words and its message. ``message="..."`` is last, and alone may hold spaces."""
    head, mark, rest = line.partition(b' message="')
    if not mark:
        return _words(line), ""
    text = rest[:-1]
    if not rest.endswith(b'"') or b'"' in text or b"\\" in text or text.translate(None, _LINE):
        raise _bad("the message is not well quoted")
    return _words(head), text.decode("ascii")


def _line(head: str, fields: dict[str, str], message: str) -> bytes:
    words = [head, *[f"{key}={value}" for key, value in fields.items()]]
    if message:
        words.append(f'message="{message}"')
    return (" ".join(words) + "\n").encode("ascii")
