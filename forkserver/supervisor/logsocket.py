"""The socket to the system's logger, syslog(3), where standard error is one. Runs in the supervisor.

A logger that ends leaves the socket unconnected, and whoever writes to it gets ECONNREFUSED or ENOTCONN. But it is one
socket, whoever inherited it: connected again here, it is so for masters and children too, which could not do it.
"""

from __future__ import annotations

import contextlib
import socket
import struct

from forkserver.errors import OperatorError
from forkserver.logline import LOOP_PATIENCE_S, is_datagram_socket

PATH = "/dev/log"
_STDERR_FD = 2


def connect() -> int:
    """A descriptor that takes lines to the logger. Raises OperatorError."""
    with contextlib.ExitStack() as stack:
        logger = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        try:
            logger.connect(PATH)
        except OSError as error:
            raise OperatorError(
                f"--syslog: {PATH}: cannot reach the system's logger: {error.strerror}; "
                "start one that takes datagrams there, rsyslog for instance, or give --log-file instead"
            ) from error
        _limit_patience(logger)
        return logger.detach()


class LogSocket:
    """Standard error; what is no connected socket with a path is left alone."""

    def __init__(self) -> None:
        self._path = ""
        if not is_datagram_socket(_STDERR_FD):
            return
        logger = socket.socket(fileno=_STDERR_FD)
        with contextlib.suppress(OSError):
            path = logger.getpeername()
            # An abstract name is bytes, and one relative to somebody else's directory may be another here.
            if isinstance(path, str) and path.startswith("/"):
                self._path = path
                _limit_patience(logger)
        logger.detach()

    def renew(self) -> None:
        """Connect it again, whether or not it still is: that shows only when a line is lost. Never waits."""
        if self._path:
            logger = socket.socket(fileno=_STDERR_FD)
            with contextlib.suppress(OSError):  # no logger: the next time, perhaps
                logger.connect(self._path)
            logger.detach()


def _limit_patience(logger: socket.socket) -> None:
    # A log asks whether there is room before it writes. Of many processes that are told so some will have to wait.
    logger.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, int(LOOP_PATIENCE_S * 1_000_000)))
