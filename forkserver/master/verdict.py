"""The one table from how a child ended to what the master says and does about it. Pure. Runs in the master."""

from __future__ import annotations

import os
import signal

from forkserver.errors import ExitStatus


class Verdict:
    """``word`` names the end; ``ordinary`` ends are not logged; a ``penalty`` throttles, if nothing had been served."""

    __slots__ = ("ordinary", "penalty", "word")

    def __init__(self, word: str, *, ordinary: bool, penalty: bool) -> None:
        self.word = word
        self.ordinary = ordinary
        self.penalty = penalty


_ORDINARY = {
    status.value: Verdict(status.name.lower().replace("_", "-"), ordinary=True, penalty=False)
    for status in ExitStatus
    if status is not ExitStatus.BUG
}


def judge(wait_status: int) -> Verdict:
    """The verdict on a status of wait(2)."""
    code = os.waitstatus_to_exitcode(wait_status)
    if code in _ORDINARY:
        return _ORDINARY[code]
    return Verdict(_name(code), ordinary=False, penalty=True)


def _name(code: int) -> str:
    if code == ExitStatus.BUG:
        return "bug"
    if code > 0:
        return f"exit-{code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal-{-code}"
