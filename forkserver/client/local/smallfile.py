"""A file that came all at once: written beside its place, and renamed into it. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from forkserver.client.local import partial, validator
from forkserver.client.local.attributes import permissions
from forkserver.client.local.target import NEW, Durable, local_failure, reason_of, sync_content, sync_name

if TYPE_CHECKING:
    from forkserver.client.content import Known


def put(directory_fd: int, path: bytes, content: memoryview, known: Known, durable: Durable) -> None:
    """Make it the file at ``path``, whose directory is ``directory_fd``; what is there, no directory, is replaced.

    Raises Failure.
    """
    name = path.rpartition(b"/")[2]
    try:
        try:
            _put(directory_fd, name, content, known, durable)
        except FileNotFoundError:
            # Another run took the file for the leftover of a killed run. To hold a lock would take too long here.
            _put(directory_fd, name, content, known, durable)
    except OSError as error:
        raise local_failure(path, reason_of(error), error) from error


def _put(directory_fd: int, name: bytes, content: memoryview, known: Known, durable: Durable) -> None:
    temporary = partial.temporary_name()
    fd = -1
    try:
        fd = os.open(temporary, NEW, permissions(known), dir_fd=directory_fd)
        while content:
            content = content[os.write(fd, content) :]
        try:
            os.utime(fd, ns=(known.version.mtime_ns, known.version.mtime_ns))
        except OverflowError:
            pass  # a time no file can have here
        validator.note(fd, known.version.etag)
        sync_content(fd, durable)
        os.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        sync_name(directory_fd, durable)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory_fd)
        raise
    finally:
        if fd >= 0:
            os.close(fd)
