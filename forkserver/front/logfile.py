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


def open_to_append(path: str, user: Owner | None) -> int:
    """Open the log for appending; a new one belongs to the server's user. Raises OperatorError."""
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
        raise OperatorError(f"--log-file: {escape(path)}: cannot write it: {reason}; name another file") from error
    if not stat.S_ISREG(state.st_mode):
        os.close(fd)
        raise OperatorError(f"--log-file: {escape(path)}: is not a regular file; name another")
    os.set_blocking(fd, True)
    return fd


def check_form(settings: Settings, *, syslog: bool) -> None:
    """Raises OperatorError where the log's lines would not be what a logger reads."""
    if syslog and settings.log_format not in {"auto", "syslog"}:
        complaint = f"log_format: {settings.log_format}: --syslog needs lines in the form syslog"
        raise OperatorError(f"{complaint}; leave it at auto, or give --log-file instead")
