"""Requests, replies, entries and trailers as values, without bytes and sockets. Runs on both sides."""

from __future__ import annotations

import enum

DEFAULT_PORT = 2057
"""TCP port of a server that names no other."""

MAX_REQUEST_BYTES = 8192
"""Longest request line, its line feed included."""
MAX_REPLY_BYTES = 16384
"""Longest reply, entry or trailer line, its line feed included."""

MAX_DIGESTED_BYTES = 1 << 24
"""Most bytes that the digest of one STAT covers, so that the answer takes only a moment."""

MAX_LISTED_BYTES = 16384
"""Longest content that a listing carries. Both sides hold it in memory as a whole."""

VERBS = ("GET", "STAT", "LIST", "PING")
DIGESTS = ("sha256", "blake2b")


def digest_field(kind: str, digits: str) -> str:
    """Return the form of a digest on the wire: its kind, one of ``DIGESTS``, a colon, and its hexadecimal digits."""
    return f"{kind}:{digits}"


class Status(enum.IntEnum):
    """The status table of docs/protocol.md.

    ``word`` is the status on the wire, for example ``not-found``, and ``digits`` its number there. Both are plain
    attributes, because a fresh child pays for what enum computes at each access.
    """

    word: str
    digits: str
    closing: bool
    """Whether the status is in ``CLOSING``."""

    OK = 200
    UNCHANGED = 304
    BAD_REQUEST = 400
    FORBIDDEN = 403
    NOT_FOUND = 404
    NOT_A_DIRECTORY = 405
    TOO_SLOW = 408
    NOT_A_FILE = 409
    CHANGED = 412
    TOO_LONG = 414
    BAD_RANGE = 416
    TOO_MANY_CONNECTIONS = 429
    INTERNAL_ERROR = 500
    BUSY = 503

    def __init__(self, number: int) -> None:
        self.word = self._name_.lower().replace("_", "-")
        self.digits = str(number)


CLOSING = frozenset(
    {
        Status.BAD_REQUEST,
        Status.TOO_SLOW,
        Status.TOO_LONG,
        Status.TOO_MANY_CONNECTIONS,
        Status.INTERNAL_ERROR,
        Status.BUSY,
    }
)
"""Statuses after which the server closes the connection."""

for _status in Status:
    _status.closing = _status in CLOSING


class End(enum.Enum):
    """How a content ended. ``word`` is the word in the trailer."""

    word: str

    OK = "ok"
    CHANGED = "changed"
    TRUNCATED = "truncated"
    READ_ERROR = "read-error"
    DRAINING = "draining"

    def __init__(self, word: str) -> None:
        self.word = word


class ProtocolError(Exception):
    """The other side does not speak the protocol. The only exception the parsers raise.

    ``status`` is the status with which a server answers. ``message`` is a fixed sentence.
    """

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Identity:
    """Identity of a process: PID and start time, as fields of every reply and every log line.

    ``start_ns`` is in nanoseconds since 1970. Together the two stay unique when a PID is used again.
    """

    __slots__ = ("fields", "pid")

    def __init__(self, pid: int, start_ns: int) -> None:
        seconds, rest = divmod(start_ns, 1_000_000_000)
        self.pid = pid
        self.fields = {"pid": str(pid), "start": f"{seconds}.{rest // 1000:06d}"}


class Request:
    """A request. ``name`` is decoded, begins with ``/`` and is not yet checked for safety.

    ``length`` None means to the end of the file. ``content`` is the size of the longest file whose content a LIST wants
    with the entry. Fields that do not belong to the verb keep their defaults.
    """

    __slots__ = ("content", "digest", "if_etag", "length", "name", "offset", "recursive", "unless_etag", "verb")

    def __init__(  # noqa: PLR0913 - one parameter a field of the request line
        self,
        verb: str,
        name: bytes = b"/",
        *,
        offset: int = 0,
        length: int | None = None,
        digest: str | None = None,
        if_etag: str | None = None,
        unless_etag: str | None = None,
        recursive: bool = False,
        content: int | None = None,
    ) -> None:
        self.verb = verb
        self.name = name
        self.offset = offset
        self.length = length
        self.digest = digest
        self.if_etag = if_etag
        self.unless_etag = unless_etag
        self.recursive = recursive
        self.content = content


class Reply:
    """First line of an answer. ``fields`` are the values as on the wire, still encoded."""

    __slots__ = ("fields", "message", "status")

    def __init__(self, status: Status, fields: dict[str, str], message: str = "") -> None:
        self.status = status
        self.fields = fields
        self.message = message


class Entry:
    """One line of a listing. ``kind`` is ``file`` or ``dir``; ``name`` is decoded and not checked for safety.

    ``content`` is the content of a small file, which follows the line if the request asked for it.
    """

    __slots__ = ("content", "fields", "kind", "name")

    def __init__(
        self, kind: str, name: bytes, fields: dict[str, str], content: bytes | memoryview | None = None
    ) -> None:
        self.kind = kind
        self.name = name
        self.fields = fields
        self.content = content


class Trailer:
    """Last line of a content or a listing."""

    __slots__ = ("end", "fields", "message")

    def __init__(self, end: End, fields: dict[str, str], message: str = "") -> None:
        self.end = end
        self.fields = fields
        self.message = message
