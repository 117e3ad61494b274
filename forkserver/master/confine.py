"""Confine the master before its first fork, so that every child inherits the confinement. Runs in the master.

The steps, in their required order:

1. Check that this user may enter the root. Otherwise nothing could be served.
2. Raise the out-of-memory score, inherited from the supervisor, which has a far lower one.
3. Set ``no_new_privs``, which Landlock requires, too.
4. Forbid inspection (not dumpable): a compromised child has the master's user, and must not take over the master.
5. Restrict the process with Landlock: read beneath the root and nothing else, no TCP bind or connect. No module of
   Python can be read from here on, so everything that master and child run must be imported before.
"""

from __future__ import annotations

import os

from forkserver.errors import OperatorError
from forkserver.kernel import landlock, oomscore, prctl


def open_root(path: str) -> int:
    """Open the served directory and return its descriptor. Raises OperatorError."""
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OperatorError(f"root: {path!r} cannot be opened: {error.strerror}; give an existing directory") from error


def lock_in(root_fd: int) -> int:
    """Confine this process to serving ``root_fd``. Return Landlock's ABI version, 0 where there is no Landlock.

    Raises OperatorError where this user may not enter the root, and OSError where the kernel has a facility and refuses
    it.
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
        pass  # no /proc: the kernel then chooses by size alone
    prctl.set_no_new_privs()
    prctl.forbid_inspection()
    return landlock.restrict_to(root_fd)
