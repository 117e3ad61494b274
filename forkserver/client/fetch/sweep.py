"""Look through the directories of a tree for what killed runs have left there. Runs at the user's."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from forkserver.client.local import leftovers
from forkserver.client.local.partial import PIECE_BYTES
from forkserver.client.outcome import Exit, Failure
from forkserver.client.remote.listing import describe

if TYPE_CHECKING:
    from forkserver.client.fetch.watcher import Watcher
    from forkserver.client.local.place import Place
    from forkserver.client.remote.session import Session

_MOST_REMEMBERED = 100_000


class Sweep:
    """Looks through each directory once, unless it is among those ``swept`` before. The ``watcher`` is told.

    ``knows_names``: the server's name of a directory is known, and so is the name of the file that a part is of.
    """

    def __init__(self, watcher: Watcher, swept: set[bytes] | None = None, *, knows_names: bool) -> None:
        self._watcher = watcher
        self._knows_names = knows_names
        self._swept = set() if swept is None else swept

    def look_through(self, place: Place, path: bytes, name: bytes | None, session: Session) -> None:
        """Remove temporary files from the directory ``path``, and tell of parts of files that the server does not have.

        ``name`` is that of the directory on the server, or None if parts in it may be of files elsewhere.
        """
        if path in self._swept:
            return
        if len(self._swept) < _MOST_REMEMBERED:
            self._swept.add(path)
        try:
            directory_fd = place.directory(path, create=False)
            removed, parts = leftovers.sweep(directory_fd)
        except OSError:
            return  # it is not there, or was told when something was to be written into it
        if removed:
            self._watcher.swept(removed)
        if name is None or not self._knows_names:
            return
        for part in parts:
            size = _size_of(session, name.rstrip(b"/") + b"/" + part.source)
            if size is None:
                self._watcher.useless(os.path.join(path, part.name), os.path.join(path, part.source), part.size)
            elif size <= PIECE_BYTES:
                leftovers.remove(directory_fd, part.name)  # the file is short by now, and has no parts


def _size_of(session: Session, name: bytes) -> int | None:
    """Return the size of a file of the server in bytes, or None if the server does not have the file.

    A server that does not answer may have a large one.
    """
    try:
        return describe(session, name).size
    except Failure as failure:
        return None if failure.exit_status is Exit.NOT_FOUND else sys.maxsize
