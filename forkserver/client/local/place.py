"""Open and create the local directories that a tree is fetched into. Runs in the client.

A path beneath the target directory is opened component by component, each relative to the directory before it, and
never through a symbolic link. So no name from a server, and no link that is already there, leads out of the target
directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Self

from forkserver.client.display import escape
from forkserver.client.local.target import local_failure, reason_of
from forkserver.client.outcome import Exit, Failure, Reach, Word

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o777
_MOST_MADE = 100_000
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""The errors of a directory that no file can be created in."""
_CLOSED = (*NOT_WRITABLE, errno.ENOTDIR, errno.ELOOP, errno.ENOENT)


def open_place(root: bytes, made: set[bytes] | None = None) -> Place:
    """Return the ``Place`` of a directory that was there when the run began. Raises Failure, which ends the run."""
    try:
        return Place(root, made)
    except OSError as error:
        failure = local_failure(root, reason_of(error))
        failure.reach = Reach.RUN
        raise failure from error


class Place:
    """Opens directories beneath ``root``; a context manager. For one thread; one path is open at a time.

    ``root`` must exist, and may be reached through symbolic links. The place adds to ``made`` the paths of directories
    that it creates, and which are therefore empty, up to 100,000 paths. Methods raise OSError; NotADirectoryError means
    that something else, as a symbolic link, is on the path. ``filename`` of each such error is the path, beneath
    ``root``, of the directory that cannot be entered, created, or written to.
    """

    def __init__(self, root: bytes, made: set[bytes] | None = None) -> None:
        self._root = root
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._way: list[bytes] = []
        self._path: bytes | None = b""
        self._made = made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in self._fds:
            os.close(fd)

    def directory(self, path: bytes, *, create: bool = True) -> int:
        """Return a descriptor of the directory ``path``, valid until the next call of a method.

        Create missing directories. Without ``create``, raise FileNotFoundError instead. ``path`` has no slash at its
        beginning or end; the empty path is the root. After an error the deepest directory that was entered stays open.
        """
        if path == self._path:
            return self._fds[-1]
        self._path = None
        components = path.split(b"/") if path else []
        common = 0
        while common < min(len(components), len(self._way)) and components[common] == self._way[common]:
            common += 1
        while len(self._way) > common:
            self._way.pop()
            os.close(self._fds.pop())
        for component in components[common:]:
            self._enter(component, create=create)
        self._path = path
        return self._fds[-1]

    def check_writable(self, path: bytes) -> None:
        """Raise OSError if no file can be created in the directory ``path``, which need not exist. Create nothing."""
        with contextlib.suppress(FileNotFoundError):  # then the last directory on the path must be writable
            self.directory(path, create=False)
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=self._fds[-1], effective_ids=True):
            raise self._not_writable(errno.EROFS if _is_read_only(self._fds[-1]) else errno.EACCES)

    def holds_something(self, path: bytes) -> bool:
        """Return whether the directory ``path`` has any entry."""
        with os.scandir(self.directory(path, create=False)) as found:
            return next(found, None) is not None

    def failure(self, path: bytes, error: OSError) -> Failure:
        """Return the Failure of the file or directory ``path`` for ``error``, which this place has raised."""
        if error.errno not in _CLOSED:
            return local_failure(path, reason_of(error), error)
        kind = "directory" if error.errno in NOT_WRITABLE else "file"
        reason = f"local {kind} {escape(error.filename or self._root)}: {reason_of(error)}"
        failure = Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, reason)
        failure.reach, failure.directory = Reach.DIRECTORY, error.filename
        return failure

    def _enter(self, component: bytes, *, create: bool) -> None:
        path = b"/".join([*self._way, component])
        if component in (b"", b".", b".."):  # checked before, but these must never be followed
            raise _error(errno.EINVAL, path)
        try:
            fd = self._open(component, path)
        except FileNotFoundError:
            if not create:
                raise
            self._make(component, path)
            fd = self._open(component, path)
        self._fds.append(fd)
        self._way.append(component)

    def _open(self, component: bytes, path: bytes) -> int:
        try:
            return os.open(component, _DIRECTORY, dir_fd=self._fds[-1])
        except OSError as error:
            error.filename = path
            raise

    def _make(self, component: bytes, path: bytes) -> None:
        try:
            os.mkdir(component, _MODE, dir_fd=self._fds[-1])
        except FileExistsError:
            return  # another thread was faster
        except OSError as error:
            if error.errno in NOT_WRITABLE:
                raise self._not_writable(error.errno) from error
            error.filename = path
            raise
        if self._made is not None and len(self._made) < _MOST_MADE:
            self._made.add(path)

    def _not_writable(self, number: int) -> OSError:
        """Return the error of the directory that is open last. On a read-only file system, name the topmost one."""
        depth = len(self._way)
        if number == errno.EROFS:
            depth = next((depth for depth, fd in enumerate(self._fds) if _is_read_only(fd)), depth)
        return _error(number, b"/".join(self._way[:depth]))


def _is_read_only(fd: int) -> bool:
    return bool(os.fstatvfs(fd).f_flag & os.ST_RDONLY)


def _error(number: int, path: bytes) -> OSError:
    return OSError(number, os.strerror(number), path)
