"""Run the path of a child in the master, before the first fork, on a file and connections of the master's own.

The first runs of Python code write to memory: the interpreter counts calls, specialises instructions (PEP 659) and
fills caches, more than a hundred pages for one connection. Without the warm-up every fresh child would copy and fill
these pages anew. All requests come from this file; no byte of a client is read.
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
"""The interpreter specialises code after eight calls, and later tries again where that failed."""
_REQUESTS = (b"GET /%s\n", b"GET /%s digest=sha256\n", b"GET /%s.missing\n")


def warm_up(settings: Settings) -> None:
    """Serve some connections in this process. Call this before signals are caught. Raises OSError."""
    root_fd = os.open(_DIRECTORY, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    log_fd = os.memfd_create("warm-up")
    table = SlotTable(1)
    # A child that may serve several connections finds the end of its queue after the first, and ends.
    queue, other_end = socket.socketpair()
    other_end.close()
    stage = _WarmUpContext(settings, root_fd, table, Intake(queue, log_fd), Log(log_fd, form=settings.log_format))
    for _ in range(_ROUNDS):
        for request in _REQUESTS:
            ours, theirs = socket.socketpair()
            with ours:
                ours.sendall(request % os.fsencode(_NAME))
                ours.shutdown(socket.SHUT_WR)
                worker.work(stage, 0, 0, (theirs, 1, "192.0.2.1:65535"))
    gc.enable()  # a child disables it
    queue.close()
    table.close_file()
    os.close(log_fd)
    os.close(root_fd)


class _WarmUpContext(worker.ChildContext):
    """A context for the master, which must keep its descriptors and its limits."""

    def drop_inherited(self, first: worker.Forwarded | None) -> None:
        pass
