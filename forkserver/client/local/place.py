"""The local directories that a tree is fetched into. Runs at the user's.

A path beneath the target directory is walked component by component, each relative to the directory before it and
never through a symbolic link: nothing that a server names, and nothing that lies there already, leads out of it.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE = 0o777
_MOST_MADE = 100_000


class Place:
    """Directories beneath ``root``, which exists, links and all; a context manager. One thread's, with one way open.

    ``made`` gets the paths of the directories that it makes, some thousands at most: nothing was in them.
    Methods raise OSError: NotADirectoryError where something else, a symbolic link for one, stands in the way.
    """

    def __init__(self, root: bytes, made: set[bytes] | None = None) -> None:
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
        """Give all descriptors back."""
        self._leave(0)
        os.close(self._fds.pop())

    def directory(self, path: bytes, *, create: bool = True) -> int:
        """A descriptor of the directory ``path``, made where it is missing; valid until the next call.

        ``path`` has no slash before or after it; empty, it is the root.
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

    def _enter(self, component: bytes, *, create: bool) -> None:
        try:
            fd = os.open(component, _DIRECTORY, dir_fd=self._fds[-1])
        except FileNotFoundError:
            if not create:
                raise
            with contextlib.suppress(FileExistsError):  # another thread was faster
                os.mkdir(component, _MODE, dir_fd=self._fds[-1])
                if self._made is not None and len(self._made) < _MOST_MADE:
                    self._made.add(b"/".join([*self._way, component]))
            fd = os.open(component, _DIRECTORY, dir_fd=self._fds[-1])
        self._fds.append(fd)
        self._way.append(component)

    def _leave(self, depth: int) -> None:
        while len(self._way) > depth:
            self._way.pop()
            os.close(self._fds.pop())
