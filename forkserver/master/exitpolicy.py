"""The exit policy: what the master logs and does for each way a child can end. Pure policy. Runs in the master."""

from __future__ import annotations

import os

from forkserver.errors import ExitStatus, name_end


class ExitPolicy:
    """Consequences of an exit status.

    ``word`` names the end in the log. An ``ordinary`` end is logged as a receipt, any other as ``died``. ``penalty``:
    back off if the child had served nothing.
    """

    __slots__ = ("ordinary", "penalty", "word")

    def __init__(self, word: str, *, ordinary: bool, penalty: bool) -> None:
        self.word = word
        self.ordinary = ordinary
        self.penalty = penalty


_ORDINARY = {
    status.value: ExitPolicy(name_end(status), ordinary=True, penalty=False)
    for status in ExitStatus
    if status is not ExitStatus.BUG
}


def exit_policy(wait_status: int) -> ExitPolicy:
    """Return the policy for a status of wait(2)."""
    code = os.waitstatus_to_exitcode(wait_status)
    return _ORDINARY.get(code) or ExitPolicy(name_end(code), ordinary=False, penalty=True)
