"""The order in which the master gives up its powers, before its first fork; children inherit it. Runs in the master.

1. The wall must stand: openat2(2) works on this kernel, or nothing is served.
2. ``no_new_privs``: also what Landlock asks for.
3. Landlock: read beneath the root, nothing else; no TCP bind or connect. The modules of Python are out of reach from
   here on: all that master and child ever run is imported before.
"""

from __future__ import annotations

import errno
import os

from forkserver.errors import OperatorError
from forkserver.kernel import landlock, prctl
from forkserver.kernel.openat2 import OpenHow, openat2


def open_root(path: str) -> int:
    """Open the served directory; returns its descriptor. Raises OperatorError."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"root: {path!r} cannot be opened: {error.strerror}; give an existing directory") from error


def lock_in(root_fd: int) -> int:
    """Give up what serving ``root_fd`` does not need; returns Landlock's ABI version, 0 for none.

    Raises OperatorError, and OSError where the kernel has a facility and refuses it.
    """
    if len(os.listdir("/proc/self/task")) != 1:
        raise AssertionError("the master forks, and must have one thread")
    try:
        os.close(openat2(root_fd, b".", OpenHow(os.O_PATH | os.O_CLOEXEC)))
    except OSError as error:
        if error.errno == errno.EACCES:
            raise OperatorError(
                "root: this user may not enter it; give the user the right to, or serve another"
            ) from error
        raise OperatorError(
            f"openat2(2) does not work here ({error.strerror}); use Linux 5.6 or newer, and no filter that forbids it"
        ) from error
    prctl.set_no_new_privs()
    return landlock.restrict_to(root_fd)
