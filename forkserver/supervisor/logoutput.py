"""Find out whether standard error is the journal, a logger's socket or a file, and choose the form of the log.

Runs in the supervisor. Masters and children do not read the environment: their settings hold the chosen form.
"""

from __future__ import annotations

import os

from forkserver import logline
from forkserver.settings import FIELDS, Settings

_STDERR_FD = 2


def choose_form(log_format: str) -> str:
    """Return the form of the log's lines: ``auto`` becomes ``journal``, ``syslog`` or ``plain``."""
    if log_format != "auto":
        return log_format
    # systemd.exec(5). The variable alone proves nothing: a program inherits it even if its standard error is
    # redirected to a file or a pipe.
    device, inode = identify()
    if os.environ.get("JOURNAL_STREAM") == f"{device}:{inode}":
        return "journal"
    return "syslog" if logline.is_datagram_socket(_STDERR_FD) else "plain"


def with_chosen_form(settings: Settings) -> Settings:
    """Return the same settings, with ``log_format`` no longer ``auto``."""
    values = {name: getattr(settings, name) for name in FIELDS}
    return Settings(**{**values, "log_format": choose_form(settings.log_format)})


def identify() -> tuple[int, int]:
    """Return device and inode of standard error: the log of this process and of all processes that it starts now."""
    status = os.fstat(_STDERR_FD)
    return status.st_dev, status.st_ino
