"""Change the score by which the kernel chooses a process to kill when memory runs out, oom_score_adj of proc(5)."""

from __future__ import annotations

_PATH = "/proc/self/oom_score_adj"
_HIGHEST = 1000

SUPERVISOR = -900
"""The supervisor's score, in thousandths of all memory or of the limit that was reached.

The kernel counts the supervisor as smaller by so much, so that it is killed last: its end is the end of all transfers.
``systemd/forkserver.service`` has the same number.
"""
MORE = 900
"""Difference between the score of a master and its children and the score of their supervisor.

At a limit of 24 MB the difference outweighs 21 MB. A supervisor has 18 MB, 12 MB more than a freshly forked child.
"""


def lower_to_supervisor() -> None:
    """Lower the score of this process, and of the processes that it starts, to ``SUPERVISOR``.

    Needs CAP_SYS_RESOURCE. Raises OSError.
    """
    _change(min(_read(), SUPERVISOR))


def raise_above_supervisor() -> None:
    """Raise the score of this process and of its children above the supervisor's, which they have inherited.

    If the supervisor's score was lowered, the result is 0, the score of any other process. Raises OSError.
    """
    _change(min(_read() + MORE, _HIGHEST))


def _read() -> int:
    with open(_PATH, "rb", buffering=0) as file:
        return int(file.read())


def _change(score: int) -> None:
    with open(_PATH, "wb", buffering=0) as file:
        file.write(b"%d" % score)
