"""The exceptions, and the exit statuses of children. Runs in every process of the server.

There are four kinds of errors:

* The *client* is wrong: a ``Refusal``, which becomes a reply.
* The *network* fails: a ``PeerGone`` or ``PeerTooSlow``, which becomes an exit status.
* The *operator* is wrong: an ``OperatorError``, one line with the remedy, and exit status 78.
* The *program* is wrong: any other exception. It is caught only in the last frame of the process and logged once as
  ``bug``; exit status 70.
"""

from __future__ import annotations

import enum
import signal

EX_BUG = 70
"""The program is wrong: EX_SOFTWARE of sysexits(3)."""
EX_CONFIG = 78
"""The operator's settings are wrong: EX_CONFIG of sysexits(3)."""


class ExitStatus(enum.IntEnum):
    """The status that a child exits with, by which it tells the master how its life ended."""

    DONE = 0
    """The child served what it was forked for, and its last connection ended in order."""
    RETIRED = 10
    """The child waited for a connection and got none: the master drains, is gone, or has too many idle children."""
    PEER_GONE = 11
    """The peer of the last connection reset it, or closed it before it had the answer."""
    PEER_TOO_SLOW = 12
    """The peer of the last connection missed a deadline."""
    BUG = EX_BUG
    """The child raised an unexpected exception, and has logged it."""


_ENDS = {status.value: status.name.lower().replace("_", "-") for status in ExitStatus}


def name_end(code: int) -> str:
    """Return the word for a child's end: the name of its ``ExitStatus``, as ``peer-gone``, or that of ``name_exit``.

    ``code`` is the exit status, or the negative number of a signal.
    """
    return _ENDS.get(code) or name_exit(code)


class OperatorError(Exception):
    """The server cannot do what the operator asked for. The text is one line with the remedy."""


class PeerGone(Exception):
    """The peer closed or reset the connection when an answer was due."""


class PeerTooSlow(Exception):
    """The peer missed a deadline."""


def name_exit(code: int) -> str:
    """Return the word for an exit status or a negative signal number: ``exit-1``, ``SIGKILL``, ``signal-40``."""
    if code >= 0:
        return f"exit-{code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal{code}"
