"""What the life of a child came to: the fields of a line about its end. Pure. Runs in master and supervisor.

Some fields are wait4(2)'s, the others stand in the child's row of the shared table. That row is the child's to write:
of a child that was taken over, it says what the intruder likes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource

    from forkserver.ipc.slots import Slot

    Fields = dict[str, str | int]

_US = 1_000_000
_MAX_COUNT = 2**63 - 1
"""Programs that collect JSON take no larger integers."""


class Life:
    """A child's life that has ended: its PID, the word for its end, its row, its last peer, what it used, and now.

    ``slot`` and ``usage`` are None where they are not known. ``now`` is the monotonic clock, in seconds; None: the
    child ended at another time.
    """

    __slots__ = ("cause", "now", "peer", "pid", "slot", "usage")

    def __init__(  # noqa: PLR0913 - each is known by another part of the caller
        self,
        pid: int,
        cause: str,
        slot: Slot | None,
        *,
        peer: str,
        usage: resource.struct_rusage | None = None,
        now: float | None = None,
    ) -> None:
        self.pid = pid
        self.cause = cause
        self.slot = slot
        self.peer = peer
        self.usage = usage
        self.now = now


def account(life: Life) -> Fields:
    """Return the fields of a ``receipt``. A dash stands for what is not known."""
    slot, usage = life.slot, life.usage
    start_us = slot.start_us if slot else 0
    return {
        "pid": life.pid,
        "cause": life.cause,
        "start": f"{start_us // _US}.{start_us % _US:06d}" if start_us else "-",
        "peer": life.peer,
        "connections": min(slot.connections, _MAX_COUNT) if slot else "-",
        "requests": min(slot.requests, _MAX_COUNT) if slot else "-",
        "sent": min(slot.sent_bytes, _MAX_COUNT) if slot else "-",
        # A loop looks at its clock before it reaps: a child may have begun a moment after.
        "wall_ms": max(0, int((life.now - slot.began) * 1000)) if slot and start_us and life.now is not None else "-",
        "cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000) if usage else "-",
        "maxrss_kib": usage.ru_maxrss if usage else "-",
    }


def account_of_cut(life: Life) -> Fields:
    """Return the fields of a ``died`` or an ``orphan``: those of ``account``, and the request that has no line."""
    slot = life.slot
    return {
        **account(life),
        "request": slot.request if slot else "-",
        "path": slot.path if slot else "-",
    }
