"""Show names, numbers and times to people. Runs in the client.

Names come from untrusted file systems and servers, and can contain control sequences of terminals. Every name that is
shown must go through ``escape``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from forkserver.protocol.printable import escape_char

if TYPE_CHECKING:
    from collections.abc import Iterable

    from forkserver.client.outcome import Served

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))
_UNDECODABLE = range(0xDC80, 0xDD00)
# Marks, embeddings, overrides and isolates of the bidirectional algorithm, and the separators of lines and paragraphs.
_MISLEADING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = {
    **{code: escape_char(chr(code)) for code in (ord("\\"), *_CONTROLS, *_MISLEADING)},
    **{code: escape_char(chr(code - 0xDC00)) for code in _UNDECODABLE},
}


def decode(name: bytes) -> str:
    """Return a name as text. Bytes that are not UTF-8 become lone surrogates, which ``os.fsencode`` turns back."""
    return name.decode("utf-8", "surrogateescape")


def escape(name: bytes | str) -> str:
    r"""Return a name as printable text: controls, and bytes that are not UTF-8, become ``\x1b`` or ``\u202e``."""
    return (decode(name) if isinstance(name, bytes) else name).translate(_VISIBLE)


def count(size: int) -> str:
    """Return a number with separators: ``73,400,320``."""
    return f"{size:,}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``number`` with its noun: ``1 file``, ``1,204 files``. ``plural`` is needed if it is not noun and s."""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def rate(bytes_a_second: float) -> str:
    """Return a rate with three or more significant digits: ``812 B/s``, ``38.6 kB/s``, ``1,204.5 MB/s``."""
    return f"{amount(bytes_a_second)}/s"


def amount(size: float) -> str:
    """Return a size in bytes for a quick look: ``812 B``, ``38.6 kB``, ``2.0 MB``."""
    # Choose the unit after rounding: otherwise 999.96 kB would be shown as 1,000.0 kB.
    if size < 999.5:  # noqa: PLR2004 - as the comment says
        return f"{size:.0f} B"
    return f"{size / 1e3:.1f} kB" if size < 999_950 else f"{size / 1e6:,.1f} MB"  # noqa: PLR2004 - likewise


def local_time(time_ns: int) -> str:
    """Return a time in the user's time zone, ``2021-06-18 09:06:40``, or ``@SECONDS`` outside the calendar.

    ``time_ns`` is in nanoseconds since 1970.
    """
    seconds = time_ns // 1_000_000_000
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, OSError, ValueError):
        return f"@{seconds}"


def processes(served: Iterable[Served], most: int = 1000) -> str:
    """Return ``PID 17`` or ``PIDs 17, 18 and 4 others``. With several servers, each PID has its server."""
    among = list(dict.fromkeys((each.pid, each.server) for each in served))
    several = len({server for _, server in among}) > 1
    shown = ", ".join(f"{pid} of {server}" if several else str(pid) for pid, server in among[:most])
    more = f" and {counted(len(among) - most, 'other')}" if len(among) > most else ""
    return f"PID{'s' if len(among) > 1 else ''} {shown}{more}"
