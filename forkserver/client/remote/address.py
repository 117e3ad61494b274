"""Parse servers and names as users write them, and derive local paths from names. Runs in the client.

Every function raises ValueError with one line for people.
"""

from __future__ import annotations

import contextlib
import os
import re
from typing import NamedTuple

from forkserver.client.display import escape
from forkserver.protocol.messages import DEFAULT_PORT, MAX_REQUEST_BYTES, ProtocolError, Request
from forkserver.protocol.native import decode_name, encode_name, encode_request

_URL = re.compile(rb"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/?(.*)\Z", re.DOTALL)
_MAX_PORT = 65535
_SERVER_FORM = "a server is HOST, HOST:PORT or [IPV6]:PORT"


class Address(NamedTuple):
    """A server: host name or IP address, and TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return the form that ``parse_server`` reads."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Location(NamedTuple):
    """A name on a server, or on several servers with the same files.

    ``name`` begins with a slash. ``shown`` is the name as the user wrote it. ``whole``: the whole name becomes the
    local path, not only its last component.
    """

    servers: tuple[Address, ...]
    name: bytes
    shown: bytes
    whole: bool = False

    def written(self, name: bytes) -> bytes:
        """Return ``name``, another name on this server, the way the user wrote this location.

        ``name`` begins with a slash. The result is an ``fs://`` address if the user wrote an ``fs://`` address. The
        result begins with a slash only if the user wrote a name that does. A single ``/`` does not count, because the
        root cannot be written without a slash.
        """
        url = _URL.match(self.shown)
        if url is not None:
            return url[1] + b"://" + url[2] + encode_name(name).encode("ascii")
        return name if self.shown.startswith(b"/") and self.shown.strip(b"/") else name.removeprefix(b"/")

    def elsewhere(self, path: bytes) -> bytes | None:
        """Return the local ``path`` in its shortest form; None: the file has its own name in the working directory."""
        place = os.path.normpath(path)
        return None if place == self.name.rpartition(b"/")[2] else place

    @property
    def is_directory(self) -> bool:
        """Whether the name ends in a slash, as only names of directories do."""
        return self.name.endswith(b"/")

    @property
    def is_url(self) -> bool:
        """Whether the user wrote an ``fs://`` address. No character of such a name is a wildcard."""
        return _URL.match(self.shown) is not None


def parse_server(text: str) -> Address:
    """Return the server that ``HOST``, ``HOST:PORT``, ``[IPV6]``, ``[IPV6]:PORT`` or a bare IPv6 address names."""
    url = _URL.match(os.fsencode(text))
    host, slash, _ = os.fsdecode(url[2]).partition("/") if url else text.partition("/")
    if url or slash:
        remedy = ""
        with contextlib.suppress(ValueError):
            remedy = f"; write {escape(host)}" if parse_server(host) else ""
        raise ValueError(f"{_SERVER_FORM}, {'not a URL' if url else 'without a slash'}{remedy}")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not (rest == "" or rest.startswith(":")):
            raise ValueError("an IPv6 address is written [ADDRESS] or [ADDRESS]:PORT")
        colon, port = rest[:1], rest[1:]
    elif text.count(":") > 1:
        host, colon, port = text, "", ""
    else:
        host, colon, port = text.partition(":")
    if not host or not host.isprintable() or set(host) & set(" /@[]"):
        raise ValueError(_SERVER_FORM)
    return Address(host, _port(port) if colon else DEFAULT_PORT)


def parse_location(written: bytes, *default: Address) -> Location:
    """Return the location that a plain name or ``fs://HOST[:PORT]/NAME`` stands for.

    A plain name is on the ``default`` servers, and nothing in a plain name is decoded. A plain name may begin with
    ``./``, as names that find(1) writes.
    """
    if not written:
        raise ValueError("a name is empty")
    url = _URL.match(written)
    if url is None:
        plain = written
        while plain.startswith(b"./"):
            plain = plain[2:]
        return Location(default, _sendable(b"/" + plain.removeprefix(b"/")), written)
    scheme, host, rest = url.groups()
    if scheme.lower() != b"fs":
        raise ValueError("only fs:// URLs are known")
    if not host:
        raise ValueError("no server between fs:// and /")
    server = parse_server(host.decode("utf-8", "surrogateescape"))
    # decode_name takes a word of the wire, which is ASCII. Encode the other bytes: they stand for themselves.
    word = "".join([chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in rest])  # noqa: PLR2004 - end of ASCII
    try:
        return Location((server,), _sendable(b"/" + decode_name(word)), written)
    except ProtocolError as error:
        raise ValueError(error.message) from error


def local_name(location: Location) -> bytes:
    """Return the local path of a file. The path depends on the user's name only, never on words of the server.

    The path is relative to the target directory: the last component of the name, or all components of a ``whole`` name.
    """
    last = location.name.rpartition(b"/")[2]
    if not last:
        raise ValueError(f"this names no file; to see a directory: fsget --list {escape(location.shown)}")
    if last in (b".", b"..") or b"\0" in last:
        raise ValueError("this names no file; the last part of a name becomes the name of the local file")
    return _path(location.name) if location.whole else last


def tree_name(location: Location) -> bytes | None:
    """Return the local path of a directory, as ``local_name``; None: the name is the root of the server."""
    name = location.name.rstrip(b"/")
    last = name.rpartition(b"/")[2]
    if last in (b".", b"..") or b"\0" in location.name:
        raise ValueError("this names no directory; the last part of a name becomes the name of the local directory")
    return (_path(name) if location.whole else last) or None


def pattern_directory(location: Location, fixed: bytes) -> bytes:
    """Return the local path for the files of a pattern. ``fixed`` is its part without wildcards."""
    return _path(fixed) if location.whole and fixed else b""


def _path(name: bytes) -> bytes:
    path = name.removeprefix(b"/")
    if path and any(component in (b"", b".", b"..") for component in path.split(b"/")):
        raise ValueError("a part of the name is empty, . or .., and cannot be a part of the local path")
    return path


def _sendable(name: bytes) -> bytes:
    # GET with a digest is the longest request of the client.
    if len(encode_request(Request("GET", name, digest="sha256"))) > MAX_REQUEST_BYTES:
        raise ValueError(f"the name is too long for a request, which has at most {MAX_REQUEST_BYTES} bytes")
    return name


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_PORT)) and 0 < int(text) <= _MAX_PORT):
        raise ValueError(f"a port is a number from 1 to {_MAX_PORT}; {_SERVER_FORM}")
    return int(text)
