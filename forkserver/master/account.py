"""What the life of a child came to: the fields of the master's line on it. Pure. Runs in the master.

Half of it is wait4(2)'s, half what the child left in its row of the shared table. That row is the child's to write: of
one that was taken over, it says what the intruder likes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.master.children import Child
    from forkserver.master.spawn import Death

_US = 1_000_000


def account(death: Death, cause: str, child: Child, now: float) -> dict[str, str | int]:
    """The fields of a ``receipt`` or ``died``; ``now`` is the loop's clock. A dash stands for what is not known."""
    slot, usage = child.slot, death.usage
    start_us = slot.start_us
    return {
        "pid": death.pid,
        "cause": cause,
        "start": f"{start_us // _US}.{start_us % _US:06d}" if start_us else "-",
        "peer": child.last_peer,
        "connections": slot.connections,
        "requests": slot.requests,
        "sent": slot.sent_bytes,
        # The loop looks at its clock before it reaps: a child may have begun a moment after.
        "wall_ms": max(0, int((now - slot.began) * 1000)) if start_us else "-",
        "cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000),
        "maxrss_kib": usage.ru_maxrss,
    }
