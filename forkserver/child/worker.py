"""Life of a child: drop what it inherited, serve connections, return the exit status. Runs in a child."""

from __future__ import annotations

import gc
import os
import resource
import time

from forkserver.child import clock
from forkserver.child.docroot import Docroot
from forkserver.child.peersocket import PeerSocket, PhaseSignal
from forkserver.child.session import ServerSession
from forkserver.errors import ExitStatus
from forkserver.ipc.handover import Intake
from forkserver.ipc.signals import SignalPipe
from forkserver.ipc.slots import SERVING, STOPPING, SlotTable
from forkserver.logline import CHILD_PATIENCE_S, Log
from forkserver.protocol.messages import Identity
from forkserver.settings import Settings

_MAX_DESCRIPTORS = 256
_STANDARD_STREAMS = 3

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import TypeAlias

    Forwarded: TypeAlias = tuple[socket.socket, int, str]


class ChildContext:
    """Everything that a child needs. The master makes it before the first fork."""

    def __init__(self, settings: Settings, root_fd: int, table: SlotTable, intake: Intake, log: Log) -> None:
        self.settings = settings
        self.root_fd = root_fd
        self.table = table
        self.intake = intake
        self.log = log
        self.docroot = Docroot(root_fd, hidden=settings.hidden)
        self.phase_signal = PhaseSignal(table)
        self._descriptors_end = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._limits = [
            (limit, _at_most(limit, wanted))
            for limit, wanted in (
                (resource.RLIMIT_CORE, 0),
                (resource.RLIMIT_NPROC, 0),
                (resource.RLIMIT_CPU, settings.child_cpu_s),
                (resource.RLIMIT_AS, settings.child_memory_bytes),
                (resource.RLIMIT_NOFILE, _MAX_DESCRIPTORS),
            )
        ]

    def drop_inherited(self, first: Forwarded | None) -> None:
        """Close the inherited descriptors (listeners, control channel, signal pipe and others), then set the limits."""
        keep = {self.root_fd}
        if first:
            keep.add(first[0].fileno())
        if not first or self.settings.connections_per_child > 1:
            keep.update(self.intake.descriptors())
        low = _STANDARD_STREAMS
        for fd in sorted(keep):
            os.closerange(low, fd)
            low = fd + 1
        os.closerange(low, self._descriptors_end)
        for limit, value in self._limits:
            resource.setrlimit(limit, (value, value))


def _at_most(limit: int, wanted: int) -> int:
    """Return ``wanted``, or the hard limit of this process if that is lower: a hard limit cannot be raised."""
    hard = resource.getrlimit(limit)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def work(context: ChildContext, child: int, slot_index: int, first: Forwarded | None) -> ExitStatus:
    """Be child number ``child``: serve ``first``, then connections from the queue. Return the exit status.

    The master has noted ``first`` in the row of the child.
    """
    status = _serve(context, child, slot_index, first)
    context.table.announce_end(slot_index)
    return status


def _serve(context: ChildContext, child: int, slot_index: int, first: Forwarded | None) -> ExitStatus:
    start_ns = time.time_ns()
    gc.disable()  # a collection would touch, and so copy, every object inherited from the master
    SignalPipe.forget()
    context.log.patience_s = CHILD_PATIENCE_S
    settings = context.settings
    context.drop_inherited(first)
    identity = Identity(os.getpid(), start_ns)
    # Read the table before writing to it: for a read the kernel maps the pages around, the page of the row included.
    context.phase_signal.check_phase(STOPPING)
    slot = context.table.slot(slot_index)
    slot.begin(identity.pid, start_ns // 1000, clock.now())
    served = 0
    while taken := first or context.intake.take():
        connection, number, peer = taken
        if not first:
            slot.take(number, peer)
        first = None
        peer_socket = PeerSocket(connection, context.phase_signal)
        session = ServerSession(
            peer_socket,
            peer=peer,
            settings=settings,
            docroot=context.docroot,
            slot=slot,
            identity=identity,
            log=context.log,
        )
        status = session.serve()
        served += 1
        # Do not announce after the last connection: the master would forward a connection to a child that exits.
        if served == settings.connections_per_child or context.table.phase != SERVING:
            return status
        context.intake.announce(child, number)
    return ExitStatus.RETIRED
