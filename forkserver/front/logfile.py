"""Open and reopen the log file of the classic daemon. Runs in the supervisor."""

from __future__ import annotations

import errno
import os

from forkserver.errors import OperatorError
from forkserver.front.daemonuser import DaemonUser
from forkserver.front.terminal import escape

_STDERR_FD = 2


def open_to_append(path: str, user: DaemonUser | None) -> int:
    """Open the log for appending; a new file belongs to ``user``. Return a descriptor. Raises OperatorError."""
    return _open(path, user, "cannot write it", "name another file")


def reopen(path: str) -> None:
    """Make standard error the file that is at ``path`` now; create the file if there is none.

    Raises OperatorError, and leaves standard error as it was.
    """
    remedy = "the old file is still written; remove the cause, then give `forkserver reopen`"
    fd = _open(path, None, "cannot reopen it", remedy)
    os.dup2(fd, _STDERR_FD)
    os.close(fd)


def _open(path: str, user: DaemonUser | None, complaint: str, remedy: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            fd = os.open(path, flags)
        else:
            if user:
                os.fchown(fd, user.uid, user.gid)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise OperatorError(f"--log-file: {escape(path)}: {complaint}: {reason}; {remedy}") from error
    if not os.path.isfile(fd):
        os.close(fd)
        raise OperatorError(f"--log-file: {escape(path)}: {complaint}: it is not a regular file; {remedy}")
    os.set_blocking(fd, True)
    return fd
