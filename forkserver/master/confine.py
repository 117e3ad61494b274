"""The order in which the master gives up its powers, before its first fork; children inherit it. Runs in the master.

1. The root must be one that this user may enter, or nothing is served.
2. Its place before others when memory runs out, in favour of the supervisor.
3. ``no_new_privs``: also what Landlock asks for.
4. Not dumpable: a child that was taken over has the master's user, and must not be able to take over the master.
5. Landlock: read beneath the root, nothing else; no TCP bind or connect. The modules of Python are out of reach from
   here on: all that master and child ever run is imported before.
"""

from __future__ import annotations

import os

from forkserver.errors import OperatorError
from forkserver.kernel import landlock, prctl

_OOM_SCORE = "/proc/self/oom_score_adj"
_HIGHEST_OOM_SCORE = 1000
_MORE_OOM_SCORE = 200
"""Thousandths of all memory, or of the limit that was reached: outweighs the supervisor's size from 40 MB on."""


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
    _go_before_supervisor()
    prctl.set_no_new_privs()
    prctl.forbid_inspection()
    return landlock.restrict_to(root_fd)


def _go_before_supervisor() -> None:
    """Score higher than it, oom_score_adj of proc(5). The kernel would end the largest process first, and with it all.

    Our unit lowers the score of all by as much: in the machine's eyes a transfer is worth no less than anything else.
    """
    try:
        with open(_OOM_SCORE, "r+b", buffering=0) as file:
            file.write(b"%d" % min(int(file.read()) + _MORE_OOM_SCORE, _HIGHEST_OOM_SCORE))
    except OSError:
        pass  # no /proc: then size decides
