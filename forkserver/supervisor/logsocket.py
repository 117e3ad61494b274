"""Connect standard error to the system's logger, syslog(3), and connect it again after the logger was restarted.

Runs in the operator's command, which only tries to connect, and in the supervisor.

When a logger ends, the socket becomes unconnected, and writes fail with ECONNREFUSED or ENOTCONN. Masters and children
cannot connect it, but they inherited the same socket: the supervisor connects it again for all of them.
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
    """Return the descriptor of a socket that is connected to the logger. Raises OperatorError."""
    with contextlib.ExitStack() as stack:
        logger = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        try:
            logger.connect(PATH)
        except OSError as error:
            raise OperatorError(
                f"--syslog: {PATH}: cannot reach the system's logger: {error.strerror}; "
                "start one that takes datagrams there, rsyslog for instance, or give --log-file instead"
            ) from error
        _limit_send_time(logger)
        return logger.detach()


class LogSocket:
    """Standard error, if it is a socket that is connected to a path; otherwise ``reconnect`` does nothing."""

    def __init__(self) -> None:
        self._path = ""
        if not is_datagram_socket(_STDERR_FD):
            return
        logger = socket.socket(fileno=_STDERR_FD)
        with contextlib.suppress(OSError):
            path = logger.getpeername()
            # An abstract name is bytes. A relative path may lead elsewhere from this process's directory.
            if isinstance(path, str) and path.startswith("/"):
                self._path = path
                _limit_send_time(logger)
        logger.detach()

    def reconnect(self) -> None:
        """Connect the socket again, without blocking.

        A socket that is still connected is connected again, too: only a lost line would show that it is not.
        """
        if self._path:
            logger = socket.socket(fileno=_STDERR_FD)
            with contextlib.suppress(OSError):  # there is no logger now; the next call tries again
                logger.connect(self._path)
            logger.detach()


def _limit_send_time(logger: socket.socket) -> None:
    # The log polls for room before it writes. But when many processes see room at once, some of them must wait.
    logger.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, int(LOOP_PATIENCE_S * 1_000_000)))
