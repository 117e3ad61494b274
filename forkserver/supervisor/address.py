"""Parse the text of a listening address; open and resolve nothing.

Runs in the operator's command and in the supervisor.
"""

from __future__ import annotations

import ipaddress
import re

_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})\Z")
_NUMERIC = re.compile(r"[0-9.]+\Z")
_ZONE = re.compile(r"[A-Za-z0-9_.-]+\Z")
_FORMS = "write HOST, HOST:PORT or [HOST]:PORT"
_MAX_PORT = 65535


def parse(text: str, default_port: int) -> tuple[str, int]:
    """Return host and port, for ``getaddrinfo``, of ``HOST``, ``HOST:PORT``, ``[V6]``, ``[V6]:PORT`` or a bare ``V6``.

    The host has no brackets. It is an IP address in canonical form, or a name in lower case, not looked up. Raises
    ValueError with a sentence that says what to write.
    """
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"the brackets do not enclose the host; {_FORMS}")
        return _ipv6(host), _port(rest[1:]) if rest else default_port
    if text.count(":") > 1:
        # No port can follow without brackets: 1::2:3 is an address of its own.
        return _ipv6(text), default_port
    host, colon, port = text.partition(":")
    return _name_or_ipv4(host), _port(port) if colon else default_port


def _ipv6(host: str) -> str:
    _, percent, zone = host.partition("%")
    if percent and not _ZONE.match(zone):
        raise ValueError(f"the zone after the % is not the name of an interface; {_FORMS}")
    try:
        return str(ipaddress.IPv6Address(host))
    except ValueError:
        raise ValueError(f"this is not an IPv6 address; {_FORMS}") from None


def _name_or_ipv4(host: str) -> str:
    if not host:
        raise ValueError("there is no host before the port; for every address of the machine write 0.0.0.0 or [::]")
    if _NUMERIC.match(host):
        # Do not pass it on as a name: the resolver would read 127.1 as 127.0.0.1, and 010.0.0.1 as 8.0.0.1.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise ValueError("this is not an IPv4 address; it has four numbers from 0 to 255") from None
    if not _NAME.match(host):
        raise ValueError(f"a host name has letters, digits, dots and hyphens; {_FORMS}")
    return host.lower()


def _port(text: str) -> int:
    # isdecimal() alone would accept digits of other scripts.
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(_MAX_PORT)) and int(text) <= _MAX_PORT):
        raise ValueError(f"the port must be a number from 0 to {_MAX_PORT}")
    return int(text)
