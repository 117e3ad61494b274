"""Choose which children to wait for, and when. Runs in the master.

wait4(2) for any child makes the kernel look at all of them. With few children that costs nothing. With many, the reaper
waits by PID for the children that announce their end in the shared table, which the kernel finds at once, and looks at
all children only every half second: a child that was killed or stopped has announced nothing.
"""

from __future__ import annotations

from forkserver.master import spawn
from forkserver.master.children import Children

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FEW = 64
LOOK_EVERY_S = 0.5


class Reaper:
    """Reap ``children``. ``due_at`` is when to reap without a signal."""

    __slots__ = ("_children", "_looked_at", "due_at")

    def __init__(self, children: Children) -> None:
        self._children = children
        self._looked_at = 0.0
        self.due_at = float("inf")

    def changes(self, now: float) -> Iterator[spawn.Death | spawn.StopChange]:
        """Yield the children that have died, and those that were stopped or continued."""
        if len(self._children) > MAX_FEW:
            for pid in self._children.ending():
                if change := spawn.reap_one(pid):
                    yield change
            if now < self._looked_at + LOOK_EVERY_S:
                self.due_at = self._looked_at + LOOK_EVERY_S
                return
        self._looked_at, self.due_at = now, float("inf")
        yield from spawn.reap()
