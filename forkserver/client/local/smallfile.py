"""Write a file whose whole content is in memory: beside its place, then renamed into it. Runs in the client."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from forkserver.client.local import partial
from forkserver.client.local.attributes import give_version, permissions
from forkserver.client.local.target import NEW, Durable, local_failure, reason_of, sync_content, sync_name

if TYPE_CHECKING:
    from forkserver.client.content import Known


def put(directory_fd: int, path: bytes, content: memoryview, known: Known, durable: Durable) -> None:
    """Write ``content`` to the file ``path``, whose directory is ``directory_fd``. Raises Failure.

    Replace what is there, unless it is a directory. ``known`` has the permissions, time and etag of the file.
    """
    name = path.rpartition(b"/")[2]
    try:
        try:
            _put(directory_fd, name, content, known, durable)
        except FileNotFoundError:
            # Another run took the file for the leftover of a killed run. To lock every small file takes too long.
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
        give_version(fd, known.version)
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
