"""Read names of remote files from a file or from standard input. Runs in the client."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from forkserver.client.display import escape
from forkserver.client.local.names import Names
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.client.remote.address import parse_location
from forkserver.protocol.messages import MAX_REQUEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.command.options import Options
    from forkserver.client.remote.address import Location

_BLOCK_BYTES = 1 << 16


class Unusable(NamedTuple):
    """An entry of a list that is no name, or collides with another name.

    ``where`` names the list and the place in the list. ``reason`` is a clause for people.
    """

    shown: bytes
    where: str
    reason: str


def named_in(options: Options, others: Iterable[Location]) -> Iterator[list[Location | Unusable]]:
    """Yield the names in the files ``options.names_from``, ``-`` for standard input; each ends in a line feed or NUL.

    Yield all names that are available at a time, because another program may still be writing the list. Skip empty
    names. A name that would become the local file of another name, in the lists or among ``others``, is unusable.
    Raises Failure if a file cannot be read, or is no list.
    """
    taken = Names()
    for location in others:
        _claim(location, options, taken)
    for path in options.names_from:
        yield from _named_in(path, options, taken)


def _named_in(path: bytes, options: Options, taken: Names) -> Iterator[list[Location | Unusable]]:
    shown = "standard input" if path == b"-" else escape(path)
    number = 0
    for names in _names(path, b"\0" if options.null else b"\n", shown):
        some: list[Location | Unusable] = []
        for name in names:
            number += 1
            if name:
                try:
                    location = parse_location(name, *options.servers)._replace(whole=options.paths is not False)
                    _claim(location, options, taken)
                    some.append(location)
                except ValueError as error:
                    some.append(Unusable(name, f"{shown}, name {number}: ", str(error)))
        yield some


def _claim(location: Location, options: Options, taken: Names) -> None:
    """Add the local name of ``location`` to ``taken``. Raises ValueError if another location has taken that name."""
    local = options.own_name(location)
    owner = (location.servers, location.name)
    if local is not None and not taken.claim(local, owner, is_directory=options.recursive):
        raise ValueError(
            "another name would become the same local file; fetch one of them to another --directory"
            + ("" if location.whole else ", or both to their --paths")
        )


def _names(path: bytes, end: bytes, shown: str) -> Iterator[list[bytes]]:
    try:
        with _opened(path) as file:
            rest, any_before = b"", False
            while block := file.read1(_BLOCK_BYTES):  # type: ignore[attr-defined] # both kinds of file have it
                if end == b"\n" and b"\0" in block:
                    raise Failure(Exit.USAGE, Word.USAGE, f"{shown}: its names end in NUL; read them with --null (-0)")
                *names, rest = (rest + block).split(end)
                yield names
                any_before = any_before or bool(names)
                if len(rest) > MAX_REQUEST_BYTES and not any_before:
                    raise Failure(
                        Exit.USAGE, Word.USAGE, f"{shown}: is no list of names, or its names do not end in {end!r}"
                    )
                rest = rest[: MAX_REQUEST_BYTES + 1]  # a longer name is refused as too long, whatever follows
            if end == b"\0" and b"\n" in rest and not any_before:
                raise Failure(Exit.USAGE, Word.USAGE, f"{shown}: no name ends in NUL; read lines without --null (-0)")
            yield [rest]
    except OSError as error:
        raise Failure(Exit.USAGE, Word.USAGE, f"{shown}: cannot be read: {error.strerror}") from error


def _opened(path: bytes) -> contextlib.AbstractContextManager[BinaryIO]:
    if path != b"-":
        return open(path, "rb")
    if sys.stdin is None:
        raise Failure(Exit.USAGE, Word.USAGE, "standard input is closed")
    return contextlib.nullcontext(sys.stdin.buffer)
