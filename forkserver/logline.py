"""Write the log: one event is one escaped line and one write(2). Runs in every process of the server.

A line has a verb and fields, in one of four forms (``FORMS``):

* ``plain`` begins with a time stamp (UTC), the program and the writer's PID.
* ``journal`` begins with a priority; the journal adds time and PID.
* ``json`` is one object.
* ``syslog`` begins with priority, program and PID; a logger adds the time.

In every form, values that are not plain printable ASCII are escaped. So no file name and no peer can forge a line, a
field or an escape sequence.
"""

from __future__ import annotations

import os
import select
import socket
import time

from forkserver.protocol.printable import escape_char

MAX_VALUE_CHARS = 2000
"""Longer values are cut."""
MAX_LINE_BYTES = 4096
"""PIPE_BUF: a longer line might not be written in one piece, pipe(7). The values of a longer line are cut."""
_TRACE_FRAMES = 6

LOOP_PATIENCE_S = 0.1
CHILD_PATIENCE_S = 1.0
"""How long to wait for a full pipe. A loop has others to serve, a child has only its own connection."""

FORMS = ("plain", "journal", "json", "syslog")

PRIORITIES = {
    "bug": 2,
    "master-died": 3,
    "master-stuck": 3,
    "reload-failed": 3,
    "died": 4,
    "throttle": 4,
    "warning": 4,
    "refused": 5,
}
"""Priorities of syslog(3), for the journal and for loggers: critical, error, warning, notice."""
INFO = 6
"""The priority of all other verbs."""
_DAEMON = 3 << 3
"""LOG_DAEMON of syslog(3)."""


class Log:
    """Write lines to ``fd`` in the named form. No method raises: a full disk must not end a transfer.

    A reader that stalls must not stop the service either. A line that finds the pipe full for ``patience_s`` is
    dropped. Then no line waits until one can be written, and that line says how many were dropped.
    """

    __slots__ = ("_broken", "_dropped", "_end", "_fd", "_poll", "_second", "_stamp", "_waits", "form", "patience_s")

    def __init__(self, fd: int = 2, *, patience_s: float = CHILD_PATIENCE_S, form: str = "plain") -> None:
        self._fd = fd
        # A file of a file system takes every line at once.
        self._waits = not os.path.isfile(fd)
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._broken = ""
        self._dropped = 0
        self._second = -1
        self._stamp = ""
        # In a datagram socket each write is a line. In a file of form `syslog`, lines need a line feed.
        self._end = "" if is_datagram_socket(fd) else "\n"
        self.patience_s = patience_s
        self.form = form

    def event(self, verb: str, **fields: str | int) -> None:
        """Write one line: ``verb``, then the fields in the order given."""
        # A pipe is ready for writing when it takes PIPE_BUF bytes.
        if self._waits and not self._poll.poll(0 if self._dropped else self.patience_s * 1000):
            self._dropped += 1
            return
        dropped, self._dropped = self._dropped, 0
        if dropped:
            fields["lines_dropped"] = dropped
        line = self._line(verb, fields, MAX_VALUE_CHARS)
        if len(line) > MAX_LINE_BYTES:
            line = self._line(verb, fields, MAX_LINE_BYTES // 2 // len(fields))
        try:
            # If only a part of the last line was written, on a full disk, begin with a line feed.
            written = os.write(self._fd, (self._broken + line).encode("ascii"))
        except OSError:
            self._dropped = dropped + 1  # no reader, or no space: either may come back
        else:
            self._broken = "" if written == len(self._broken + line) else "\n"

    def bug(self, error: BaseException) -> None:
        """Write a ``bug`` line for an unexpected exception, with its innermost frames."""
        frames: list[str] = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}:{code.co_name}")
            trace = trace.tb_next
        self.event("bug", error=f"{type(error).__name__}: {error}", at=" < ".join(frames[: -_TRACE_FRAMES - 1 : -1]))

    def _line(self, verb: str, fields: dict[str, str | int], limit: int) -> str:
        if self.form == "json":
            return self._json_line(verb, fields, limit)
        words = _words(fields, limit)
        if self.form == "journal":
            return f"<{PRIORITIES.get(verb, INFO)}>{verb}{words}\n"
        if self.form == "syslog":
            return f"{_head(PRIORITIES.get(verb, INFO))}{verb}{words}{self._end}"
        return f"{self._now()} forkserver[{os.getpid()}] {verb}{words}\n"

    def _json_line(self, verb: str, fields: dict[str, str | int], limit: int) -> str:
        # `pid` is the process that the line is about. In most lines that is the writer.
        writer = os.getpid()
        every = {"time": self._now(), "writer": writer, "verb": verb, "pid": writer, **fields}
        return "{" + ", ".join([f'"{key}": {_json_value(value, limit)}' for key, value in every.items()]) + "}\n"

    def _now(self) -> str:
        """Return the time as RFC 3339 has it, UTC."""
        second, rest = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            # Keep the text for all lines of this second: a busy master writes thousands.
            self._second = second
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{rest // 1000:06d}Z"


def is_datagram_socket(fd: int) -> bool:
    """Whether ``fd`` is a socket like that of syslog(3), connected or not: unix(7), datagrams."""
    try:
        found = socket.socket(fileno=fd)
    except OSError:
        return False
    kind = found.family, found.type
    found.detach()  # otherwise it would close the caller's descriptor
    return kind == (socket.AF_UNIX, socket.SOCK_DGRAM)


def syslog_complaint(text: str, priority: int) -> bytes:
    """Return ``text``, a message for people, as a line of form ``syslog``."""
    line = _head(priority) + "".join([char if " " <= char <= "~" else escape_char(char) for char in text])
    return line[:MAX_LINE_BYTES].encode("ascii")


def _head(priority: int) -> str:
    return f"<{_DAEMON | priority}>forkserver[{os.getpid()}]: "


def _words(fields: dict[str, str | int], limit: int) -> str:
    """Return `` key=value`` for each field.

    Most lines need no escapes, so one check of the whole line saves the check of each value.
    """
    words = "".join([f" {key}={value}" for key, value in fields.items()])
    if (
        words.isascii()
        and words.isprintable()
        and words.count(" ") == len(fields)
        and '"' not in words
        and "\\" not in words
        and "= " not in words + " "  # an empty value
        and len(words) <= limit
    ):
        return words
    return "".join([f" {key}={_value(value, limit)}" for key, value in fields.items()])


def _value(value: str | int, limit: int) -> str:
    if isinstance(value, int):
        return str(int(value))
    value = _cut(value, limit)
    if value.isascii() and value.isprintable() and value and not set(value) & {" ", '"', "\\"}:
        return value
    return '"' + _joined([_escape(char) for char in value], limit) + '"'


def _json_value(value: str | int, limit: int) -> str:
    if isinstance(value, int):
        return str(int(value))
    if value == "-":
        return "null"  # programs that collect JSON want one type for each key
    value = _cut(value, limit)
    if value.isascii() and value.isprintable() and '"' not in value and "\\" not in value:
        return f'"{value}"'
    return '"' + _joined([_json_escape(char) for char in value], limit) + '"'


def _cut(value: str, limit: int) -> str:
    return value if len(value) <= limit else value[:limit] + "..."


def _joined(pieces: list[str], limit: int) -> str:
    """Join the pieces, or as many as fit into ``limit``. No piece, which may be an escape, is cut in two."""
    text = "".join(pieces)
    while len(text) > limit + 3:
        pieces = pieces[: len(pieces) * limit // len(text)]
        text = "".join(pieces) + "..."
    return text


def _escape(char: str) -> str:
    return char if " " <= char <= "~" and char not in '"\\' else escape_char(char)


def _json_escape(char: str) -> str:
    """Escape as RFC 8259: beyond 16 bits a surrogate pair. A byte that is not UTF-8 stays a lone surrogate."""
    if " " <= char <= "~":
        return escape_char(char) if char in '"\\' else char
    code = ord(char)
    if code < 0x10000:  # noqa: PLR2004 - width of the escape
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
