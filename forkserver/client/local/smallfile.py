"""A file that came all at once: written beside its place, and renamed into it. Runs at the user's."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from forkserver.client.local import partial, validator
from forkserver.client.local.target import NEW, Durable, local_failure, permissions, reason_of, sync_content, sync_name

if TYPE_CHECKING:
    from forkserver.client.remote.answers import Known


def put(directory_fd: int, path: bytes, content: memoryview, known: Known, durable: Durable) -> None:
    """Make it the file at ``path``, whose directory is ``directory_fd``; what is there, no directory, is replaced.

    Raises Failure.
    """
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
        os.rename(temporary, path.rpartition(b"/")[2], src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
        sync_name(directory_fd, durable)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=directory_fd)
        if isinstance(error, OSError):
            raise local_failure(path, reason_of(error), error) from error
        raise
    finally:
        if fd >= 0:
            os.close(fd)
