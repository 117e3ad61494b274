"""A child's life, from the fork to its exit status: drop, serve, announce, serve again. Runs in a child."""

from __future__ import annotations

import gc
import os
import resource
import time

from forkserver.child import clock
from forkserver.child.docroot import Docroot
from forkserver.child.session import Session
from forkserver.child.wire import Wire
from forkserver.errors import ExitStatus
from forkserver.handover import Intake
from forkserver.logline import CHILD_PATIENCE_S, Log
from forkserver.protocol.messages import Identity
from forkserver.settings import Settings
from forkserver.signals import SignalPipe
from forkserver.slots import SERVING, SlotTable

_MAX_DESCRIPTORS = 256
_STANDARD_STREAMS = 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import TypeAlias

    Taken: TypeAlias = tuple[socket.socket, int, str]


class Equipment:
    """What every child is given, made by the master before its first fork."""

    def __init__(self, settings: Settings, root_fd: int, table: SlotTable, intake: Intake, log: Log) -> None:
        self.settings = settings
        self.root_fd = root_fd
        self.table = table
        self.intake = intake
        self.log = log
        self.docroot = Docroot(root_fd, hidden=settings.hidden)
        self.descriptors_end = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self.limits = [
            (limit, _at_most(limit, wanted))
            for limit, wanted in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_NPROC, 0),
                (resource.RLIMIT_CPU, settings.child_cpu_s),
                (resource.RLIMIT_AS, settings.child_memory_bytes),
                (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
            )
        ]


def _at_most(limit: int, wanted: int) -> int:
    """``wanted``, or the hard limit we were started with where that is lower: it cannot be raised."""
    hard = resource.getrlimit(limit)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def work(equipment: Equipment, child: int, slot_index: int, first: Taken | None) -> ExitStatus:
    """Be child number ``child``: serve ``first``, then what the queue gives; returns the status to exit with."""
    start_ns = time.time_ns()
    gc.disable()  # a collection would touch, and so copy, every object inherited from the master
    SignalPipe.forget()
    equipment.log.patience_s = CHILD_PATIENCE_S
    settings = equipment.settings
    _close_all_but(equipment, first)
    for limit, value in equipment.limits:
        resource.setrlimit(limit, (value, value))
    slot = equipment.table.slot(slot_index)
    slot.begin(start_ns // 1000, clock.now())
    identity = Identity(os.getpid(), start_ns)
    served = 0
    while taken := first or equipment.intake.take():
        first = None
        connection, number, peer = taken
        slot.take(number)
        wire = Wire(connection, equipment.table)
        session = Session(
            wire,
            peer=peer,
            settings=settings,
            docroot=equipment.docroot,
            slot=slot,
            identity=identity,
            log=equipment.log,
        )
        status = session.serve()
        served += 1
        # To announce oneself after a life's last connection would have the master forward to the dying.
        if served == settings.connections_per_child or equipment.table.wish != SERVING:
            return status
        equipment.intake.announce(child, number)
    return ExitStatus.RETIRED


def _close_all_but(equipment: Equipment, first: Taken | None) -> None:
    """Close what a child must not have: listeners, control channel, signal pipe, and the queue if it is not needed."""
    keep = {equipment.root_fd}
    if first:
        keep.add(first[0].fileno())
    if not first or equipment.settings.connections_per_child > 1:
        keep.update(equipment.intake.descriptors())
    low = _STANDARD_STREAMS
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, equipment.descriptors_end)
