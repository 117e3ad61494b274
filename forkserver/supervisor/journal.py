"""Whether standard error goes to the journal, systemd.exec(5), or to a logger, and so the form of the log.

Runs in the supervisor. Masters and children do not read the environment: they get the decision with their settings.
"""

from __future__ import annotations

import os

from forkserver import logline
from forkserver.settings import FIELDS, Settings

_STDERR_FD = 2


def form(log_format: str) -> str:
    """The form of the log's lines that the setting stands for: ``auto`` is ``journal``, ``syslog`` or ``plain``."""
    if log_format != "auto":
        return log_format
    if _is_stream():
        return "journal"
    return "syslog" if logline.is_datagram_socket(_STDERR_FD) else "plain"


def destination() -> tuple[int, int]:
    """Return device and inode of what standard error is now: the log of this process and of all that it starts."""
    status = os.fstat(_STDERR_FD)
    return status.st_dev, status.st_ino


def decided(settings: Settings) -> Settings:
    """The same settings, with ``log_format`` no longer ``auto``."""
    values = {name: getattr(settings, name) for name in FIELDS}
    return Settings(**{**values, "log_format": form(settings.log_format)})


def _is_stream() -> bool:
    # The variable alone says nothing: it is inherited by what has its standard error redirected, to a file or a pipe.
    named = os.environ.get("JOURNAL_STREAM", "")
    device, inode = destination()
    return named == f"{device}:{inode}"
