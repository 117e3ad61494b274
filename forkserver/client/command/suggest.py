"""Suggest names close to one that does not exist: ``did you mean "reports/tax.pdf"?`` Runs in the client."""

from __future__ import annotations

import heapq
import time
from difflib import SequenceMatcher
from itertools import islice
from os.path import splitext
from typing import TYPE_CHECKING

from forkserver.client.command.report import complain
from forkserver.client.display import decode, escape
from forkserver.client.remote.peek import peek

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.remote.address import Location
    from forkserver.client.remote.listing import Listed

MOST_SUGGESTIONS = 3
MOST_ENTRIES = 2000
"""Most entries of a directory that are compared."""
MOST_SECONDS = 0.5
"""Most seconds that a run spends on suggestions."""
_CLOSE = 0.66


class Suggester:
    """Suggests names to people, until the time for suggestions is used up."""

    def __init__(self) -> None:
        self._left_s = MOST_SECONDS
        self._told_of_line_ends = False

    def suggest(self, location: Location) -> None:
        """Suggest the names in the directory of ``location`` that are close to its name, if there are any."""
        directory, _, asked = location.name.rstrip(b"/").rpartition(b"/")
        if asked.endswith(b"\r") and not self._told_of_line_ends:
            self._told_of_line_ends = True
            complain("the name ends in a carriage return; convert a list from Windows with tr -d '\\r'")
        if self._left_s <= 0 or not asked:
            return
        started = time.monotonic()

        def choose(entries: Iterator[Listed]) -> list[bytes]:
            return close_names(asked, (entry.name.rpartition(b"/")[2] for entry in islice(entries, MOST_ENTRIES)))

        names = peek(location.servers[0], directory or b"/", self._left_s, choose)
        self._left_s -= time.monotonic() - started
        if names:
            complain(_question([location.written(directory + b"/" + name) for name in names]))


def close_names(asked: bytes, names: Iterable[bytes]) -> list[bytes]:
    """Return the ``names`` that may have been meant, at most MOST_SUGGESTIONS, the closest first."""
    scored = ((_closeness(decode(asked), decode(name)), name) for name in names if name != asked)
    # A listing may contain a name twice.
    close = {(-closeness, name) for closeness, name in scored if closeness >= _CLOSE}
    return [name for _, name in heapq.nsmallest(MOST_SUGGESTIONS, close)]


def _closeness(asked: str, name: str) -> float:
    """Return a number from 0, nothing in common, to 1, equal apart from the case of letters."""
    asked, name = asked.casefold(), name.casefold()
    (asked_stem, asked_extension), (stem, extension) = splitext(asked), splitext(name)
    if asked != name and (asked_stem == stem or name.startswith(asked + ".")):
        return 0.95
    # Ignore a common extension: it makes a.txt no closer to b.txt than a is to b.
    matcher = SequenceMatcher(None, *((stem, asked_stem) if extension == asked_extension else (name, asked)))
    return matcher.ratio() if matcher.quick_ratio() >= _CLOSE else 0.0


def _question(names: list[bytes]) -> str:
    *others, last = [f'"{escape(name)}"' for name in names]
    return f"did you mean {', '.join(others)} or {last}?" if others else f"did you mean {last}?"
