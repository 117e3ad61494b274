"""Time, permissions and etag of a file that was fetched. Runs at the user's."""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING

from forkserver.client.local import validator

if TYPE_CHECKING:
    from forkserver.client.content import Known

_ORDINARY_MODE = 0o666
_EXECUTE = 0o111


def give_metadata(fd: int, known: Known) -> None:
    """Set permissions and modification time of the file ``fd``, and note the etag with it. Raises OSError."""
    os.fchmod(fd, permissions(known) & ~_umask())
    with contextlib.suppress(OverflowError):  # A time no file can have here.
        os.utime(fd, ns=(known.version.mtime_ns, known.version.mtime_ns))
    validator.note(fd, known.version.etag)


def permissions(known: Known) -> int:
    """Of the file here, but for the umask."""
    return _ORDINARY_MODE | (known.mode & _EXECUTE)


@functools.cache
def _umask() -> int:
    # It can only be read by setting it: a thread that makes a file meanwhile would make it with the other one.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
