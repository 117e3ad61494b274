"""What systemd says to a service: sockets passed on, sd_listen_fds(3). Runs in the supervisor."""

from __future__ import annotations

import os
import socket

from forkserver.errors import OperatorError

_FIRST_FD = 3


def passed_sockets() -> list[socket.socket]:
    """The sockets systemd passed to this very process; an empty list if it passed none.

    Takes the variables out of the environment: a master must not think that they are meant for it. Raises OperatorError
    for a descriptor that is no socket.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            os.set_inheritable(fd, False)
            sockets.append(socket.socket(fileno=fd))
        except OSError as error:
            raise OperatorError(f"LISTEN_FDS: descriptor {fd} is no socket ({error.strerror}); unset it") from error
    return sockets
