"""One event, one escaped line, one write(2). Runs in every process of the server.

A line is a time stamp (UTC), the program and the writer's PID, a verb of a closed list, and ``key=value`` fields.
A value that is not plain printable ASCII is quoted and escaped: no file name and no peer can forge a line or an escape
sequence.
"""

from __future__ import annotations

import os
import select
import time

MAX_VALUE_CHARS = 2000
"""Longer values are cut: a line must fit PIPE_BUF, 4096 bytes, to be written in one piece (pipe(7))."""
_TRACE_FRAMES = 6


LOOP_PATIENCE_S = 0.1
CHILD_PATIENCE_S = 5.0
"""How long a full pipe is waited for: a loop has others to serve, a child only this."""


class Log:
    """Writes lines to ``fd``. Never raises: a full disk under the log must not end a transfer.

    A reader that stalls must not stop the service either: a line that finds the pipe full for ``patience_s`` is
    dropped, and the next one that is written says how many were. Until one is written again, no line waits.
    """

    __slots__ = ("_dropped", "_fd", "_poll", "patience_s")

    def __init__(self, fd: int = 2, *, patience_s: float = CHILD_PATIENCE_S) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._dropped = 0
        self.patience_s = patience_s

    def event(self, verb: str, **fields: str | int) -> None:
        """Write one line: ``verb``, then the fields in the order given."""
        now = time.time_ns()
        seconds, rest = divmod(now, 1_000_000_000)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        # A pipe is ready for writing when it takes PIPE_BUF bytes; a file always is.
        if not self._poll.poll(0 if self._dropped else self.patience_s * 1000):
            self._dropped += 1
            return
        if self._dropped:
            fields["lines_dropped"] = self._dropped
            self._dropped = 0
        words = "".join([f" {key}={_value(value)}" for key, value in fields.items()])
        line = f"{stamp}.{rest // 1000:06d}Z forkserver[{os.getpid()}] {verb}{words}\n"
        try:
            os.write(self._fd, line.encode("ascii"))
        except OSError:
            pass  # nobody left to tell

    def bug(self, error: BaseException) -> None:
        """Write one ``bug`` line for an exception nobody expected, with the innermost frames."""
        frames: list[str] = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno}:{code.co_name}")
            trace = trace.tb_next
        self.event("bug", error=f"{type(error).__name__}: {error}", at=" < ".join(frames[: -_TRACE_FRAMES - 1 : -1]))


def _value(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    if len(value) > MAX_VALUE_CHARS:
        value = value[:MAX_VALUE_CHARS] + "..."
    if value.isascii() and value.isprintable() and value and not set(value) & {" ", '"', "\\"}:
        return value
    return '"' + "".join([_escape(char) for char in value[: MAX_VALUE_CHARS // 6]]) + '"'


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if " " <= char <= "~":
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - widths of the escapes
