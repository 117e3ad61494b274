"""The exception families, and the vocabulary of exit statuses. Runs in every process.

Errors come in four kinds. The *client* is wrong: a ``Refusal``, which becomes a reply. The *network* is
gone: a ``PeerGone`` or ``PeerTooSlow``, which becomes an exit status. The *operator* is wrong: an
``OperatorError``, one line with the remedy and exit 78. *We* are wrong: any other exception, which is never
caught in the middle, logged once as ``bug``, exit 70.
"""

from __future__ import annotations

import enum
import signal

EX_BUG = 70
"""Our own fault: EX_SOFTWARE of sysexits(3)."""
EX_CONFIG = 78
"""The operator's settings are wrong: EX_CONFIG of sysexits(3)."""


class ExitStatus(enum.IntEnum):
    """How a child tells the master what became of it: the status it exits with."""

    DONE = 0
    """Served what it was made for; the last connection ended in order."""
    RETIRED = 10
    """Waited for a connection, and the queue was closed: the master drains or is gone."""
    PEER_GONE = 11
    """The peer of the last connection reset it, or closed it before it had its answer."""
    PEER_TOO_SLOW = 12
    """The last connection met a deadline."""
    BUG = EX_BUG
    """An exception nobody expected; the child has logged it."""


_ENDS = {status.value: status.name.lower().replace("_", "-") for status in ExitStatus}


def name_end(code: int) -> str:
    """Return the word for how a child ended, from its exit status, or the negative number of a signal.

    ``done``, ``peer-gone`` and the like for an ``ExitStatus``, else as ``name_exit``.
    """
    return _ENDS.get(code) or name_exit(code)


class OperatorError(Exception):
    """What the operator asked for cannot be done; the text is one line with the remedy."""


class PeerGone(Exception):
    """The peer closed or reset the connection where an answer was due."""


class PeerTooSlow(Exception):
    """The peer met a deadline."""


def name_exit(code: int) -> str:
    """An exit status, or a signal's number below zero, in one word: ``exit-1``, ``SIGKILL``, ``signal-40``."""
    if code >= 0:
        return f"exit-{code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal{code}"
