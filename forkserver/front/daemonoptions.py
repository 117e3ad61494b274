"""The options of a daemon. ``forkserver start`` sends them to the daemon, which keeps them for reloads.

Runs in the operator's command and in the supervisor.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from forkserver.errors import OperatorError
from forkserver.front import configfile
from forkserver.settings import Settings


class DaemonOptions(NamedTuple):
    """The options of ``forkserver start``. Paths are absolute, because the daemon works in ``/``."""

    config: str | None
    settings: dict[str, Any]
    """Settings given as options, by their names in ``FIELDS``."""
    directory: str
    """Working directory of the command: a relative root starts here."""
    log_path: str | None
    syslog: bool
    user: str | None
    group: str | None

    def load(self) -> Settings:
        """Read the settings. Raises OperatorError if a setting is wrong."""
        settings = configfile.load(self.config, self.settings, self.directory)
        if self.syslog and settings.log_format not in {"auto", "syslog"}:
            complaint = f"log_format: {settings.log_format}: --syslog needs lines in the form syslog"
            raise OperatorError(f"{complaint}; leave it at auto, or give --log-file instead")
        return settings

    def encode(self) -> bytes:
        """Return the form that ``decode`` reads."""
        return json.dumps(self._asdict()).encode("ascii")

    @classmethod
    def decode(cls, data: bytes) -> DaemonOptions:
        """Undo ``encode``."""
        return cls(**json.loads(data))
