"""Sweep the directories of a tree: remove the leftovers of killed runs. Runs in the client."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from forkserver.client.events import Swept, Useless
from forkserver.client.local import leftovers
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure
from forkserver.client.remote.listing import describe

if TYPE_CHECKING:
    from forkserver.client.events import OnEvent
    from forkserver.client.local.place import Place
    from forkserver.client.remote.session import Session

_MOST_REMEMBERED = 100_000


class Sweep:
    """Sweeps each directory once, unless the directory is in ``swept``.

    ``knows_names``: the server's names of the directories are known, so ``session`` can ask for the files of parts.
    """

    def __init__(self, session: Session, on_event: OnEvent, swept: set[bytes] | None, *, knows_names: bool) -> None:
        self._session = session
        self._on_event = on_event
        self._knows_names = knows_names
        self._swept = set() if swept is None else swept

    def look_through(self, place: Place, path: bytes, name: bytes | None) -> None:
        """Remove temporary files from the directory ``path``, and tell of parts of files that the server does not have.

        ``name`` is the directory's name on the server, or None if its parts may be of files elsewhere.
        """
        if path in self._swept:
            return
        if len(self._swept) < _MOST_REMEMBERED:
            self._swept.add(path)
        try:
            directory_fd = place.directory(path, create=False)
            removed, parts = leftovers.sweep(directory_fd)
        except OSError:
            return  # the directory is missing, or an event has told of its failure
        if removed:
            self._on_event(Swept(removed))
        if name is None or not self._knows_names:
            return
        for part in parts:
            size = _size_of(self._session, name.rstrip(b"/") + b"/" + part.source)
            if size is None:
                self._on_event(Useless(os.path.join(path, part.name), os.path.join(path, part.source), part.size))
            elif size <= PIECE_BYTES:
                leftovers.remove(directory_fd, part.name)  # a file this short needs no part


def _size_of(session: Session, name: bytes) -> int | None:
    """Return the size of a file of the server in bytes, or None if the server does not have the file.

    If the server does not answer, return the largest number, so that the part is kept.
    """
    try:
        return describe(session, name).size
    except Failure as failure:
        return None if failure.exit_status is Exit.NOT_FOUND else sys.maxsize
