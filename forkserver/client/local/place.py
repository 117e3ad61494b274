"""The local directories that a tree is fetched into. Runs in the client.

A path beneath the target directory is walked component by component, each relative to the directory before it and
never through a symbolic link: nothing that a server names, and nothing that lies there already, leads out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Self

from forkserver.client.display import escape
from forkserver.client.local.target import local_failure, reason_of
from forkserver.client.outcome import Exit, Failure, Reach, Word

if TYPE_CHECKING:
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o777
_MOST_MADE = 100_000
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a directory that nothing can be made in."""
_CLOSED = (*NOT_WRITABLE, errno.ENOTDIR, errno.ELOOP, errno.ENOENT)


def open_place(root: bytes, made: set[bytes] | None = None) -> Place:
    """Return the ``Place`` of a directory that was there when the run began. Raises Failure: the run cannot go on."""
    try:
        return Place(root, made)
    except OSError as error:
        failure = local_failure(root, reason_of(error), error)
        failure.reach = Reach.RUN
        raise failure from error


class Place:
    """Opens directories beneath ``root``; a context manager. For one thread; one path is open at a time.

    ``root`` must exist, and may be reached through symbolic links. ``made`` receives the paths of the directories that
    are made, at most 100,000; they were empty when made. Methods raise OSError: NotADirectoryError where something
    else, a symbolic link for one, is on the path. ``filename`` of each such error is the path, beneath ``root``, of the
    directory that cannot be entered, made, or written to.
    """

    def __init__(self, root: bytes, made: set[bytes] | None = None) -> None:
        self._root = root
        self._fds = [os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        self._way: list[bytes] = []
        self._path: bytes | None = b""
        self._made = made

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all descriptors."""
        self._leave(0)
        os.close(self._fds.pop())

    def directory(self, path: bytes, *, create: bool = True) -> int:
        """Return a descriptor of the directory ``path``, valid until the next call of a method. Make what is missing.

        ``path`` has no slash before or after it; empty, it is the root. Without ``create``, raises FileNotFoundError
        where ``path`` is missing. After an error the deepest directory that was entered stays open.
        """
        if path == self._path:
            return self._fds[-1]
        self._path = None
        components = path.split(b"/") if path else []
        common = 0
        while common < min(len(components), len(self._way)) and components[common] == self._way[common]:
            common += 1
        self._leave(common)
        for component in components[common:]:
            self._enter(component, create=create)
        self._path = path
        return self._fds[-1]

    def check_writable(self, path: bytes) -> None:
        """Raise OSError where no file can be made in the directory ``path``, which need not exist. Make nothing."""
        with contextlib.suppress(FileNotFoundError):  # it can be made where the last directory on the way is writable
            self.directory(path, create=False)
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=self._fds[-1], effective_ids=True):
            read_only = os.fstatvfs(self._fds[-1]).f_flag & os.ST_RDONLY
            raise self._not_writable(errno.EROFS if read_only else errno.EACCES)

    def holds_something(self, path: bytes) -> bool:
        """Return whether the directory ``path`` has any entry."""
        with os.scandir(self.directory(path, create=False)) as found:
            return next(found, None) is not None

    def failure(self, path: bytes, error: OSError) -> Failure:
        """Return the failure of the file or directory ``path`` that ``error``, raised by this place, is."""
        if error.errno not in _CLOSED:
            return local_failure(path, reason_of(error), error)
        there = error.filename
        kind = "directory" if error.errno in NOT_WRITABLE else "file"
        shown = escape(there or self._root)
        reason = f"local {kind} {shown}: {reason_of(error)}"
        failure = Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, reason)
        failure.reach, failure.directory = Reach.DIRECTORY, there
        return failure

    def _enter(self, component: bytes, *, create: bool) -> None:
        if component in (b"", b".", b".."):  # checked before, and never to be followed
            raise self._about(OSError(errno.EINVAL, os.strerror(errno.EINVAL)), len(self._way), component)
        try:
            fd = self._open(component)
        except FileNotFoundError:
            if not create:
                raise
            self._make(component)
            fd = self._open(component)
        self._fds.append(fd)
        self._way.append(component)

    def _open(self, component: bytes) -> int:
        try:
            return os.open(component, _DIRECTORY, dir_fd=self._fds[-1])
        except OSError as error:
            raise self._about(error, len(self._way), component) from error

    def _make(self, component: bytes) -> None:
        try:
            os.mkdir(component, _MODE, dir_fd=self._fds[-1])
        except FileExistsError:
            return  # another thread was faster
        except OSError as error:
            if error.errno in NOT_WRITABLE:
                raise self._not_writable(error.errno) from error
            raise self._about(error, len(self._way), component) from error
        if self._made is not None and len(self._made) < _MOST_MADE:
            self._made.add(b"/".join([*self._way, component]))

    def _not_writable(self, number: int) -> OSError:
        """Return the error of the directory that is open last. Of a read-only file system, name the topmost one."""
        depth = len(self._way)
        if number == errno.EROFS:
            read_only = (depth for depth, fd in enumerate(self._fds) if os.fstatvfs(fd).f_flag & os.ST_RDONLY)
            depth = next(read_only, depth)
        return self._about(OSError(number, os.strerror(number)), depth)

    def _about(self, error: OSError, depth: int, *more: bytes) -> OSError:
        return OSError(error.errno, error.strerror, b"/".join([*self._way[:depth], *more]))

    def _leave(self, depth: int) -> None:
        while len(self._way) > depth:
            self._way.pop()
            os.close(self._fds.pop())
