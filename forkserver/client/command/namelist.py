"""Names of remote files, read from a file or from standard input. Runs at the user's."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, BinaryIO

from forkserver.client.display import escape
from forkserver.client.outcome import Exit, Failure
from forkserver.client.remote.address import parse_location
from forkserver.protocol.messages import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.command.run import Options
    from forkserver.client.remote.address import Location

_BLOCK_BYTES = 1 << 16


def named_in(path: bytes, end: bytes, options: Options) -> Iterator[list[Location]]:
    """What the names in the file at ``path`` stand for, ``-`` for standard input; each ends in the byte ``end``.

    As many at a time as are there: another program may still be writing them. Empty ones are passed over. Raises
    Failure, after all before it, where the file cannot be read, or one of them is no name.
    """
    taken: dict[bytes, bytes] = {}
    shown = "standard input" if path == b"-" else escape(path)
    number = 0
    for names in _names(path, end, shown):
        some: list[Location] = []
        for name in names:
            number += 1
            if not name:
                continue
            try:
                some.append(_location(name, options, taken))
            except ValueError as error:
                yield some
                raise Failure(Exit.USAGE, "usage", f"{shown}, name {number}: {escape(name[:200])}: {error}") from error
        yield some


def _location(name: bytes, options: Options, taken: dict[bytes, bytes]) -> Location:
    location = parse_location(name, *options.servers)
    local = options.own_name(location)
    if local is not None and taken.setdefault(local, name) != name:
        raise ValueError(f"it would become the same local file as {escape(taken[local])}; fetch one only")
    return location


def _names(path: bytes, end: bytes, shown: str) -> Iterator[list[bytes]]:
    try:
        with _opened(path) as file:
            rest = b""
            while block := file.read1(_BLOCK_BYTES):  # type: ignore[attr-defined] # both kinds of file have it
                *names, rest = (rest + block).split(end)
                yield names
                if len(rest) > MAX_REQUEST_BYTES:
                    raise Failure(
                        Exit.USAGE, "usage", f"{shown}: is no list of names, or its names do not end in {end!r}"
                    )
            yield [rest]
    except OSError as error:
        raise Failure(Exit.USAGE, "usage", f"{shown}: cannot be read: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: bytes) -> Iterator[BinaryIO]:
    if path != b"-":
        with open(path, "rb") as file:
            yield file
    elif sys.stdin is None:
        raise Failure(Exit.USAGE, "usage", "standard input is closed")
    else:
        yield sys.stdin.buffer
