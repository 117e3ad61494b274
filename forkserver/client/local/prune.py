"""Delete from a local tree what the server does not have. Runs in the client."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from forkserver.client.local import leftovers, partial
from forkserver.client.local.place import Place
from forkserver.client.local.target import local_failure, reason_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from forkserver.client.local.names import Names
    from forkserver.client.outcome import Failure

_NOT_EMPTY = (errno.ENOTEMPTY, errno.EEXIST)


class Pruning:
    """Deletes paths beneath a tree, and tells of each.

    ``wanted`` returns whether the run is about a path beneath the tree at all; other paths stay. ``directories``
    returns the same for a directory, or a link to one. ``deleted`` is called for every path that is deleted, and
    ``failed`` for every path that cannot be deleted. ``dry``: only call ``deleted``, and delete nothing.
    """

    def __init__(
        self,
        wanted: Callable[[bytes], bool],
        directories: Callable[[bytes], bool],
        deleted: Callable[[bytes], None],
        failed: Callable[[bytes, Failure], None],
        *,
        dry: bool,
    ) -> None:
        self._wanted = wanted
        self._wanted_directory = directories
        self._deleted = deleted
        self._failed = failed
        self._dry = dry
        self._top = b""
        self._full: set[bytes] = set()
        """In a dry run: directories that the server does not have, and that would not become empty."""

    def prune(self, root: bytes, top: bytes, kept: Names) -> None:
        """Delete everything in the tree ``top`` that is not among ``kept``. Both are relative to ``root``.

        Keep hidden files, whose names begin with a dot, and directories that contain something then. Servers do not
        list hidden files, so a hidden file that is not listed may still be on the server. Follow no symbolic link.
        Delete leftovers of other runs for files that are not kept, unless another run still uses them.
        """
        self._top = top
        try:
            with Place(root) as place:
                self._prune(place.directory(top, create=False), kept)
        except (FileNotFoundError, NotADirectoryError):
            return  # a dry run may come before the first fetch, which creates the directory
        except OSError as error:
            self._failed(top, local_failure(top, reason_of(error)))
        except RecursionError:
            self._failed(top, local_failure(top, "lies too deep to be looked through for what to delete"))

    def _prune(self, top_fd: int, kept: Names) -> None:
        top = self._top
        for above, directories, files, above_fd in os.fwalk(b".", topdown=False, dir_fd=top_fd):
            inside = os.path.join(top, above[2:]) if above != b"." else top
            stays = False
            for name in (*files, *directories):
                path = os.path.join(inside, name)
                if name.startswith(partial.PREFIX) and not _is_hidden(inside):
                    if leftovers.part_of_list(name) not in files:  # a list goes with its part
                        stays = not self._delete_leftover(name, path, above_fd, kept) or stays
                    continue
                beneath = path[len(top) :].lstrip(b"/")
                wanted = self._wanted_directory if name in directories else self._wanted
                if path in kept or path in self._full or _is_hidden(path) or not wanted(beneath):
                    stays = True
                else:
                    self._delete(name, path, above_fd)
            if self._dry and stays and inside not in kept:
                self._full.add(inside)

    def _delete_leftover(self, name: bytes, path: bytes, directory_fd: int, kept: Names) -> bool:
        """Delete a leftover of a killed run, or of a file that is not kept. Return whether the leftover is gone."""
        source = leftovers.source_of(name)
        inside = path.removesuffix(name)
        if source is not None:
            source_path = inside + source
            if source_path in kept or not self._wanted(source_path[len(self._top) :].lstrip(b"/")):
                return False
        elif not partial.is_temporary(name) and inside.removesuffix(b"/") in kept:
            return False  # the name does not tell which file the part belongs to
        if not leftovers.remove(directory_fd, name, dry=self._dry):
            return False
        self._deleted(path)
        return True

    def _delete(self, name: bytes, path: bytes, directory_fd: int) -> None:
        try:
            if not self._dry:
                _remove(name, directory_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                self._failed(path, local_failure(path, reason_of(error)))
            return
        self._deleted(path)


def _remove(name: bytes, directory_fd: int) -> None:
    try:
        os.unlink(name, dir_fd=directory_fd)
    except IsADirectoryError:
        os.rmdir(name, dir_fd=directory_fd)


def _is_hidden(path: bytes) -> bool:
    return path.startswith(b".") or b"/." in path
