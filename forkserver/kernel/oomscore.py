"""The score by which the kernel chooses what to end when memory runs out, oom_score_adj of proc(5)."""

from __future__ import annotations

_PATH = "/proc/self/oom_score_adj"
_HIGHEST = 1000

SUPERVISOR = -900
"""Thousandths of all memory, or of the limit that was reached: the supervisor counts as smaller than it is by so much.

The supervisor is the last to go, for its end is the end of all transfers. ``systemd/forkserver.service`` has the same
number.
"""
MORE = 900
"""By how much a master and its children score higher than their supervisor.

At a limit of 24 MB the score outweighs 21 MB. A supervisor has 18 MB, 12 MB more than a child that was just forked.
"""


def lower_to_supervisor() -> None:
    """Lower the score of this process, and of the processes that it starts, to ``SUPERVISOR``. Raises OSError.

    The kernel asks for CAP_SYS_RESOURCE.
    """
    _change(min(_read(), SUPERVISOR))


def raise_above_supervisor() -> None:
    """Raise the score of this process, and of its children, above the supervisor's, which it has inherited.

    Where the supervisor's was lowered, the result is that of any other process, 0. Raises OSError.
    """
    _change(min(_read() + MORE, _HIGHEST))


def _read() -> int:
    with open(_PATH, "rb", buffering=0) as file:
        return int(file.read())


def _change(score: int) -> None:
    with open(_PATH, "wb", buffering=0) as file:
        file.write(b"%d" % score)
