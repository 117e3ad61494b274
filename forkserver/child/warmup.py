"""Before the first fork the master does what its children will do, on a file and connections of its own.

Runs in the master. The first run of a piece of Python writes much: the interpreter counts its calls, specialises its
instructions (PEP 659) and fills its caches, more than a hundred pages for one connection, which every fresh child
would copy and fill anew. What is asked here comes from this file alone; no client's byte is read.
"""

from __future__ import annotations

import gc
import os
import socket

from forkserver.child import worker
from forkserver.ipc.handover import Intake
from forkserver.ipc.slots import SlotTable
from forkserver.logline import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.settings import Settings

_DIRECTORY, _NAME = os.path.split(os.path.abspath(__file__))
_ROUNDS = 30
"""The interpreter specialises after eight calls, and what it specialised wrongly it tries again later."""
_REQUESTS = (b"GET /%s\n", b"GET /%s digest=sha256\n", b"GET /%s.missing\n")


def warm_up(settings: Settings) -> None:
    """Serve some connections in this process. To be called before it catches signals. Raises OSError."""
    root_fd = os.open(_DIRECTORY, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    log_fd = os.memfd_create("warm-up")
    table = SlotTable(1)
    stage = _WarmUpContext(settings, root_fd, table, _EmptyQueue(), Log(log_fd, form=settings.log_format))
    for _ in range(_ROUNDS):
        for request in _REQUESTS:
            ours, theirs = socket.socketpair()
            with ours:
                ours.sendall(request % os.fsencode(_NAME))
                ours.shutdown(socket.SHUT_WR)
                worker.work(stage, 0, 0, (theirs, 1, "192.0.2.1:65535"))
    gc.enable()  # a child disables it
    table.close_file()
    os.close(log_fd)
    os.close(root_fd)


class _WarmUpContext(worker.ChildContext):
    """ChildContext as a child's, but the master must lose neither its descriptors nor its limits."""

    def drop_inherited(self, first: worker.Forwarded | None) -> None:
        pass


class _EmptyQueue(Intake):
    """A queue with nothing more in it: a child that may serve several would wait there, and announce itself to us."""

    __slots__ = ()

    def __init__(self) -> None:
        pass

    def take(self) -> None:
        pass

    def announce(self, child: int, connection: int) -> None:
        pass
