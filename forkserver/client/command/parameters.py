"""Parse and check values of options for click. Runs in the client.

Every function raises BadParameter for a value that is wrong.
"""

from __future__ import annotations

import os
import re
from itertools import zip_longest

import click

from forkserver.client.display import escape
from forkserver.client.local import checksums
from forkserver.client.remote.address import Address, parse_server
from forkserver.protocol.messages import DEFAULT_PORT

MAX_TIMEOUT_S = 86400
MIN_RATE = 1024
"""Bytes a second. Servers cut off peers that take much less."""
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)([KMGkmg]?)")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}

_STANDARD_OUTPUT = (b"/dev/stdout", b"/dev/fd/1", b"/proc/self/fd/1")


CHECKSUM = "--checksum"


class Command(click.Command):
    """A command whose option ``--checksum`` may have a value, as options of GNU programs may.

    ``--checksum=VALUE`` has a value. A lone ``--checksum`` stands for ``-c``, unless the next word can only be a value.
    """

    def parse_args(self, context: click.Context, arguments: list[str]) -> list[str]:
        """Parse ``arguments``, with ``-c`` in place of every ``--checksum`` that has no value."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        options = [
            "-c" if word == CHECKSUM and not checksums.looks_like(follower) else word
            for word, follower in zip_longest(arguments[:end], arguments[1:end], fillvalue="")
        ]
        return super().parse_args(context, options + arguments[end:])


def servers(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[Address, ...]:
    """Return the servers, each once, or the server on this machine if none is named."""
    return tuple(dict.fromkeys(map(_server, values or (f"127.0.0.1:{DEFAULT_PORT}",))))


def _server(value: str) -> Address:
    if not value:
        raise click.BadParameter("the name is empty")
    try:
        return parse_server(value)
    except ValueError as error:
        raise click.BadParameter(f"'{escape(value)}': {error}") from error


def rate(value: str) -> int:
    """Return bytes a second. ``value`` is a number, with K, M or G behind it for KiB, MiB or GiB."""
    found = _RATE.fullmatch(value)
    bytes_a_second = int(float(found[1]) * _UNITS[found[2].upper()]) if found else 0
    if bytes_a_second < MIN_RATE:
        raise click.BadParameter(f"'{escape(value)}': must be bytes a second, {MIN_RATE} at least, as 500K or 2.5M")
    return bytes_a_second


def timeout(_context: click.Context, _option: click.Parameter, value: float) -> float:
    """Return ``value``, in seconds."""
    # This comparison refuses NaN, too.
    if not 0 < value <= MAX_TIMEOUT_S:
        raise click.BadParameter(f"must be more than 0 and at most {MAX_TIMEOUT_S} seconds")
    return value


def checksum(value: str) -> str:
    """Return the 64 hexadecimal digits of ``sha256:HEX`` or ``HEX``, in lower case."""
    try:
        return checksums.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def destination(value: str) -> bytes:
    """Return a path as bytes. Any name of standard output becomes ``-``: a new file would replace that name, a link."""
    path = os.fsencode(value)
    return b"-" if path in _STANDARD_OUTPUT else path
