r"""Write and read lists of digests in the format of sha256sum(1). Runs in the client.

A line is the digest in hexadecimal digits, a space, a space or an asterisk, and the name. If a backslash precedes the
digest, ``\\``, ``\n`` and ``\r`` in the name stand for a backslash, a line feed and a carriage return.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_DIGEST = re.compile("(?:sha256:)?([0-9A-Fa-f]{64})")
_LINE = re.compile(rb"(\\?)([0-9A-Fa-f]{64}) [ *]([^\0]+)")
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)
_CHARACTERS = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}


def encode(digest: str, name: bytes) -> bytes:
    """Return one line, with its line feed, for the file ``name``. ``digest`` has 64 hexadecimal digits."""
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode("ascii") + b"  " + escaped + b"\n"


def decode(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield the digest, in lower case, and the name of every line. Raises ValueError with one line for people."""
    for number, line in enumerate(lines, 1):
        line = line.removesuffix(b"\n").removesuffix(b"\r")  # noqa: PLW2901 - the same line
        if not line or line.startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError(f"line {number} is not one of sha256sum: 64 hexadecimal digits, two spaces, a name")
        mark, digest, name = found.groups()
        yield digest.decode("ascii").lower(), _unescape(name, number) if mark else name


def parse(text: str) -> str:
    """Return the 64 digits, in lower case, of ``sha256:HEX`` or ``HEX``. Raises ValueError with one line for people."""
    found = _DIGEST.fullmatch(text)
    if not found:
        raise ValueError("must be sha256: and 64 hexadecimal digits, or these alone")
    return found[1].lower()


def looks_like(text: str) -> bool:
    """Return whether ``text`` is meant as a digest: a digest, or anything that begins with ``sha256:``."""
    return text.startswith("sha256:") or _DIGEST.fullmatch(text) is not None


def sha256_of(fd: int) -> str:
    """Return the SHA-256, in hexadecimal digits, of the file ``fd`` from its present offset on. Raises OSError."""
    with open(fd, "rb", buffering=0, closefd=False) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unescape(name: bytes, number: int) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        try:
            return _CHARACTERS[found[1]]
        except KeyError:
            raise ValueError(f"line {number} has an escape that is none of \\\\, \\n and \\r") from None

    if (len(name) - len(name.rstrip(b"\\"))) % 2:
        raise ValueError(f"line {number} ends in half an escape")
    return _ESCAPED.sub(character, name)
