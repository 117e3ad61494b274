"""Find and remove what killed runs have left beside the files, unless another run uses it. Runs in the client.

A run that ends in order removes its temporary files, and keeps parts of large files for the next run. A run that was
killed leaves its temporary files, too. The lock of a leftover tells whether another run uses the leftover: a writer
that takes long holds flock(2) on its temporary file or part. A small file is written without a lock, and written again
if it was removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.display import count, escape
from forkserver.client.local import partial

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = os.fsdecode(partial.PREFIX)
_HASHED = re.compile(rb"[0-9a-f]{64}")
_BLOCK_BYTES = 512
"""The unit of ``st_blocks``, whatever the file system."""


class Part(NamedTuple):
    """A part in a directory: its ``name``, the name ``source`` of its file, and its ``size`` on the disk in bytes."""

    name: bytes
    source: bytes
    size: int


def source_of(name: bytes) -> bytes | None:
    """Return the name of the file that the part, or the list of a part, called ``name`` belongs to.

    None: ``name`` is neither, or contains the hash of a long name.
    """
    stem = name.removeprefix(partial.PREFIX)
    source, dot, kind = stem.rpartition(b".")
    if not source or dot + kind not in (partial.PART, partial.SUMS) or _HASHED.fullmatch(source):
        return None
    return source


def part_of_list(name: bytes) -> bytes | None:
    """Return the name of the part that the list of digests called ``name`` verifies. None: ``name`` is no such list."""
    return name.removesuffix(partial.SUMS) + partial.PART if name.endswith(partial.SUMS) else None


def sweep(directory_fd: int) -> tuple[int, list[Part]]:
    """Remove the temporary files of other runs from a directory, unless their writers still run.

    Return how many files were removed, and the parts that no run uses. Raises OSError.
    """
    removed = 0
    parts = []
    with os.scandir(directory_fd) as entries:
        # Read all names before a file is removed. Most directories have none of these names.
        found = [entry.name for entry in entries if entry.name.startswith(_PREFIX)]
    for name in map(os.fsencode, found):
        if partial.is_temporary(name):
            removed += not partial.is_own(name) and remove(directory_fd, name)
        elif name.endswith(partial.PART) and (source := source_of(name)) and remove(directory_fd, name, dry=True):
            parts.append(Part(name, source, _size(os.stat(name, dir_fd=directory_fd, follow_symlinks=False))))
    return removed, parts


def remove(directory_fd: int, name: bytes, *, dry: bool = False) -> bool:
    """Remove a temporary file, a part with its list, or a list without a part, unless another run uses it.

    Return whether it was removed, or with ``dry`` whether it would be. Only a regular file is removed.
    """
    names = [name]
    if name.endswith(partial.PART):  # the list first: without the part, another run may create both anew
        names.insert(0, name.removesuffix(partial.PART) + partial.SUMS)
    try:
        with _locked(directory_fd, name):
            for each in () if dry else names:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(each, dir_fd=directory_fd)
    except OSError:
        return False
    return True


def note_about_part(path: bytes) -> str:
    """Return a clause for people about the part of the file ``path`` that is here; empty if there is none."""
    directory, name = os.path.split(path)
    part = os.path.join(directory, partial.names_beside(name)[0])
    try:
        size = _size(os.lstat(part))
    except OSError:
        return ""
    return f"; what came of it before is in {escape(part)}, {count(size)} bytes on the disk, and can be removed"


@contextlib.contextmanager
def _locked(directory_fd: int, name: bytes) -> Iterator[None]:
    """Hold the lock of a leftover. Raises OSError if another process has the lock, or if it is no regular file."""
    # Without O_NONBLOCK, opening a FIFO could wait. Some file systems lock only files that are open for writing.
    fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory_fd)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileNotFoundError
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _size(found: os.stat_result) -> int:
    return found.st_blocks * _BLOCK_BYTES
