r"""Lists of digests as sha256sum(1) writes and reads them. Runs at the user's.

A line is the digest in hexadecimal, a space, a space or an asterisk, and the name. A backslash before the digest says
that in the name ``\\``, ``\n`` and ``\r`` stand for a backslash, a line feed and a carriage return.
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
_BLOCK_BYTES = 1 << 20


def encode(digest: str, name: bytes) -> bytes:
    """One line, line feed included, of ``digest``, 64 hexadecimal digits."""
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    mark = b"\\" if escaped != name else b""
    return mark + digest.encode("ascii") + b"  " + escaped + b"\n"


def decode(lines: Iterator[bytes]) -> Iterator[tuple[str, bytes]]:
    """Digest, in lower case, and name of every line. Raises ValueError with one line for people."""
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
    """The 64 hexadecimal digits, in lower case, of ``sha256:HEX`` or ``HEX``. Raises ValueError as ``decode``."""
    found = _DIGEST.fullmatch(text)
    if not found:
        raise ValueError("must be sha256: and 64 hexadecimal digits, or these alone")
    return found[1].lower()


def looks_like(text: str) -> bool:
    """Return whether ``text`` is meant as a digest: one, or anything that begins with ``sha256:``."""
    return text.startswith("sha256:") or _DIGEST.fullmatch(text) is not None


def sha256_of(fd: int) -> str:
    """The hexadecimal digest of what is in ``fd`` from where it stands. Raises OSError."""
    hasher = hashlib.sha256()
    block = bytearray(_BLOCK_BYTES)
    with memoryview(block) as view, open(fd, "rb", buffering=0, closefd=False) as file:
        while size := file.readinto(block):
            hasher.update(view[:size])
    return hasher.hexdigest()


def _unescape(name: bytes, number: int) -> bytes:
    def character(found: re.Match[bytes]) -> bytes:
        try:
            return _CHARACTERS[found[1]]
        except KeyError:
            raise ValueError(f"line {number} has an escape that is none of \\\\, \\n and \\r") from None

    if (len(name) - len(name.rstrip(b"\\"))) % 2:
        raise ValueError(f"line {number} ends in half an escape")
    return _ESCAPED.sub(character, name)
