"""Where the classic daemon logs to: a file, or the system's logger. Runs in the front and in the daemon."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from forkserver.errors import OperatorError
from forkserver.front.configfile import escape

if TYPE_CHECKING:
    from forkserver.front.owner import Owner
    from forkserver.settings import Settings


_STDERR_FD = 2


def open_to_append(path: str, user: Owner | None) -> int:
    """Open the log for appending; a new one belongs to the server's user. Raises OperatorError."""
    return _open(path, user, "cannot write it", "name another file")


def reopen(path: str) -> None:
    """Put the file that is at ``path`` now, made where there is none, in the place of standard error.

    Raises OperatorError; then standard error is as before.
    """
    fd = _open(path, None, "cannot reopen it", "the old file is still written; mend it and give `forkserver reopen`")
    os.dup2(fd, _STDERR_FD)
    os.close(fd)


def _open(path: str, user: Owner | None, complaint: str, remedy: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o640)
        except FileExistsError:
            fd = os.open(path, flags)
        else:
            if user:
                os.fchown(fd, user.uid, user.gid)
        state = os.fstat(fd)
    except OSError as error:
        reason = "it is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise OperatorError(f"--log-file: {escape(path)}: {complaint}: {reason}; {remedy}") from error
    if not stat.S_ISREG(state.st_mode):
        os.close(fd)
        raise OperatorError(f"--log-file: {escape(path)}: {complaint}: it is not a regular file; {remedy}")
    os.set_blocking(fd, True)
    return fd


def check_form(settings: Settings, *, syslog: bool) -> None:
    """Raises OperatorError where the log's lines would not be what a logger reads."""
    if syslog and settings.log_format not in {"auto", "syslog"}:
        complaint = f"log_format: {settings.log_format}: --syslog needs lines in the form syslog"
        raise OperatorError(f"{complaint}; leave it at auto, or give --log-file instead")
