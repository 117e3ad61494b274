r"""The spelling of characters that may not be shown as they are: ``\x1b``, ``\u202e``. Runs in every process.

Names and messages come from file systems and peers that nobody here controls. Unescaped, one of them could forge a line
or a field of the log, or a control sequence of a terminal. Each place that shows text decides which characters may
stay; all places spell the others alike.
"""

from __future__ import annotations

_BYTE, _SHORT = 0x100, 0x10000
_NAMED = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def escape_char(char: str) -> str:
    r"""Return the escape of ``char``: ``\"``, ``\\``, ``\x0a``, ``\u202e`` or ``\U0001f600``."""
    code = ord(char)
    if char in '"\\':
        return "\\" + char
    return f"\\x{code:02x}" if code < _BYTE else f"\\u{code:04x}" if code < _SHORT else f"\\U{code:08x}"


def escape_unprintable(text: str, also: str = "") -> str:
    """Return ``text`` fit for one line of a terminal: escape unprintable characters, and those in ``also``."""
    return "".join(
        [char if char.isprintable() and char not in also else _NAMED.get(char) or escape_char(char) for char in text]
    )
