"""Remember which local names this run has taken. Runs in the client."""

from __future__ import annotations

import contextlib
import os

from forkserver.client.local import partial
from forkserver.client.local.hashtable import HashTable


class Names:
    """Local paths, each for one remote file. A directory may be for several remote directories.

    ``folds_case``: the file system treats names that differ only in case as the same name. Only hashes are kept, and
    many of them on the disk, because a server can list names without end. Methods raise Failure if the disk is full.
    """

    def __init__(self, *, folds_case: bool = False) -> None:
        self.folds_case = folds_case
        self._taken = HashTable()
        self._unlisted = HashTable()

    def claim(self, path: bytes, owner: object, *, is_directory: bool) -> bool:
        """Take ``path`` for ``owner``, any hashable value; a directory may have several owners.

        Return False if another owner has ``path``, or if ``path`` is taken as a file and claimed as a directory, or the
        other way round.
        """
        mine = hash(path) if is_directory else hash(owner)
        return self._taken.setdefault(self._key(path), mine) == mine

    def leave_alone(self, path: bytes) -> None:
        """Note that the directory ``path`` was not listed. ``in`` is then true of every path beneath ``path``."""
        self._unlisted.setdefault(self._key(path), 1)

    @property
    def complaint(self) -> str:
        """The reason, for people, why a path is not free."""
        same = ", or differs from it only in case, which is the same here" if self.folds_case else ""
        return f"another file of this run has this name{same}; fetch one of them to another --directory"

    def __contains__(self, path: bytes) -> bool:
        if self._taken.get(self._key(path)) is not None:
            return True
        while path := path.rpartition(b"/")[0]:
            if self._unlisted.get(self._key(path)) is not None:
                return True
        return False

    def _key(self, path: bytes) -> int:
        return hash(path.decode("utf-8", "surrogateescape").casefold() if self.folds_case else path)


def folds_case(directory_fd: int) -> bool:
    """Return whether names in this directory that differ only in case are the same. Create a file to find out."""
    name = partial.temporary_name()
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=directory_fd))
        os.stat(name.upper(), dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        return False  # case matters; or no file could be created, and the first write will tell why
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory_fd)
    return True
