"""Delete from a local tree what the server does not have. Runs at the user's."""

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
    """How: ``wanted`` tells whether the run is about a path beneath the tree at all, and only then it is deleted.

    ``directories`` tells the same of a directory, or a link in its place. ``deleted`` is told of every path, and
    ``failed`` of every one that cannot be. ``dry``: only tell.
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
        """Of a dry run, directories that the server does not have, and that something stays in."""

    def prune(self, root: bytes, top: bytes, kept: Names) -> None:
        """Of the tree ``top``, in the directory ``root``, delete what is not among ``kept``, paths from ``root`` on.

        What begins with a dot is left alone, and so is a directory that is not empty then: servers do not show hidden
        files, so that one is not listed does not mean that it is not there. No symbolic link is followed. What other
        runs of fsget have left of files that are not kept is deleted, unless such a run still uses it.
        """
        self._top = top
        try:
            with Place(root) as place:
                self._prune(place.directory(top, create=False), kept)
        except (FileNotFoundError, NotADirectoryError):
            return  # a dry run before the first
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
                    self._delete(name, path, above_fd, is_directory=name in directories)
            if self._dry and stays and inside not in kept:
                self._full.add(inside)

    def _delete_leftover(self, name: bytes, path: bytes, directory_fd: int, kept: Names) -> bool:
        """Delete what a killed run has left, and what came of a file that is not kept. Return whether it is gone."""
        source = leftovers.source_of(name)
        inside = path.removesuffix(name)
        if source is not None:
            source_path = inside + source
            if source_path in kept or not self._wanted(source_path[len(self._top) :].lstrip(b"/")):
                return False
        elif not partial.is_temporary(name) and inside.removesuffix(b"/") in kept:
            return False  # nobody knows of which file it is
        if not leftovers.remove(directory_fd, name, dry=self._dry):
            return False
        self._deleted(path)
        return True

    def _delete(self, name: bytes, path: bytes, directory_fd: int, *, is_directory: bool) -> None:
        try:
            if self._dry:
                pass
            elif is_directory:
                _remove_directory(name, directory_fd)
            else:
                os.unlink(name, dir_fd=directory_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in _NOT_EMPTY:
                self._failed(path, local_failure(path, reason_of(error)))
            return
        self._deleted(path)


def _remove_directory(name: bytes, directory_fd: int) -> None:
    try:
        os.rmdir(name, dir_fd=directory_fd)
    except NotADirectoryError:  # a symbolic link to one
        os.unlink(name, dir_fd=directory_fd)


def _is_hidden(path: bytes) -> bool:
    return path.startswith(b".") or b"/." in path
