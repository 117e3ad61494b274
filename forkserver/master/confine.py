"""The order in which the master gives up its powers, before its first fork; children inherit it. Runs in the master.

1. The root must be one that this user may enter, or nothing is served.
2. Its score for the end when memory runs out: the supervisor's is far lower, and the master has inherited it.
3. ``no_new_privs``: also what Landlock asks for.
4. Not dumpable: a child that was taken over has the master's user, and must not be able to take over the master.
5. Landlock: read beneath the root, nothing else; no TCP bind or connect. The modules of Python are out of reach from
   here on: all that master and child ever run is imported before.
"""

from __future__ import annotations

import os

from forkserver.errors import OperatorError
from forkserver.kernel import landlock, oomscore, prctl


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
        os.stat(".", dir_fd=root_fd)
    except PermissionError as error:
        raise OperatorError("root: this user may not enter it; give the user the right to, or serve another") from error
    try:
        oomscore.raise_above_supervisor()
    except OSError:
        pass  # no /proc: then size decides
    prctl.set_no_new_privs()
    prctl.forbid_inspection()
    return landlock.restrict_to(root_fd)
