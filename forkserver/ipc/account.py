"""Make the fields of the log line about a child's end. Pure. Runs in master and supervisor.

Some fields come from wait4(2), the others from the child's row of the shared table. The child writes that row, so the
row of a compromised child can say anything.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import resource

    from forkserver.ipc.slots import Slot

    Fields = dict[str, str | int]

_US = 1_000_000
_MAX_COUNT = 2**63 - 1
"""The largest integer that programs which collect JSON accept."""


def account(  # noqa: PLR0913 - each is known by another part of the caller
    pid: int,
    cause: str,
    slot: Slot | None,
    *,
    peer: str | None = None,
    usage: resource.struct_rusage | None = None,
    now: float | None = None,
) -> Fields:
    """Return the fields of a ``receipt``. A dash stands for an unknown value.

    ``cause`` is the word for the child's end, ``slot`` its row of the shared table, ``peer`` its last peer (None: the
    peer in the row), ``usage`` the resources that it used, and ``now`` the time of its end by the monotonic clock, in
    seconds. ``slot``, ``usage`` and ``now`` are None if unknown.
    """
    start_us = slot.start_us if slot else 0
    return {
        "pid": pid,
        "cause": cause,
        "start": f"{start_us // _US}.{start_us % _US:06d}" if start_us else "-",
        "peer": peer or (slot.peer if slot else "-"),
        "connections": min(slot.connections, _MAX_COUNT) if slot else "-",
        "requests": min(slot.requests, _MAX_COUNT) if slot else "-",
        "sent": min(slot.sent_bytes, _MAX_COUNT) if slot else "-",
        # A loop reads its clock before it reaps, so a child may have begun after `now`.
        "wall_ms": max(0, int((now - slot.began) * 1000)) if slot and start_us and now is not None else "-",
        "cpu_ms": int((usage.ru_utime + usage.ru_stime) * 1000) if usage else "-",
        "maxrss_kib": usage.ru_maxrss if usage else "-",
    }


def request_under_way(slot: Slot | None) -> Fields:
    """Return the fields that ``died`` and ``orphan`` have besides those of ``account``: the request that was cut."""
    return {"request": slot.request if slot else "-", "path": slot.path if slot else "-"}
