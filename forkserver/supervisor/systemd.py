"""What systemd says to a service: sockets passed on, sd_listen_fds(3). Runs in the supervisor."""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3


def passed_sockets() -> list[socket.socket]:
    """The sockets systemd passed to this very process; an empty list if it passed none.

    Takes the variables out of the environment: a master must not think that they are meant for it.
    """
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        os.set_inheritable(fd, False)
        sockets.append(socket.socket(fileno=fd))
    return sockets
