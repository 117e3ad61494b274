"""The master's composition root: receive settings and sockets, lock in, run. Runs in the master.

The supervisor starts it as ``python -I -S -E .../forkserver/master/__main__.py FD``: no site-packages, no environment.
FD is the control channel (``forkserver.ipc.control``).
"""

from __future__ import annotations

import functools
import gc
import os
import signal
import socket
import sys
import time

if not __package__:
    # Started by path, isolated: nothing else would tell Python where the package is.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from forkserver import __version__, settings
from forkserver.child import worker
from forkserver.child.warmup import warm_up
from forkserver.errors import EX_BUG, EX_CONFIG, OperatorError
from forkserver.ipc import control
from forkserver.ipc.handover import Handover
from forkserver.ipc.signals import SignalPipe
from forkserver.ipc.slots import SlotTable
from forkserver.kernel import prctl
from forkserver.logline import LOOP_PATIENCE_S, Log
from forkserver.master import confine
from forkserver.master.loop import Master
from forkserver.master.orders import Orders
from forkserver.master.pool import Pool
from forkserver.master.refusals import Refusals
from forkserver.protocol.messages import Identity


def main(channel_fd: int) -> int:
    """Be the master of the supervisor at the other end of ``channel_fd``; returns the exit status."""
    log = Log(patience_s=LOOP_PATIENCE_S)
    channel = socket.socket(fileno=channel_fd)
    try:
        master = build(channel, log)
        say = control.READY + __version__.encode("ascii")
    except (OperatorError, OSError) as error:
        say = control.FAILED + str(error).encode("utf-8", "surrogateescape")
    try:
        channel.send(say)
    except OSError:
        return EX_CONFIG  # nobody is left to serve for
    if say.startswith(control.FAILED):
        return EX_CONFIG
    # What exists now is never collected, and so never written to, in master or child.
    gc.collect()
    gc.freeze()
    try:
        master.run()
    except OperatorError as error:
        channel.send(control.FAILED + str(error).encode("ascii"))
        return EX_BUG
    except Exception as error:  # noqa: BLE001 - the last frame of the process: log it, whatever it is
        log.bug(error)
        return EX_BUG
    return 0


def build(channel: socket.socket, log: Log) -> Master:
    """Receive what the supervisor sends, make the master's parts, lock in. Raises OperatorError and OSError."""
    # A Ctrl-C at the terminal is the supervisor's to act on.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    data, fds, _flags, _address = socket.recv_fds(channel, control.MAX_PACKET_BYTES, control.MAX_LISTENERS)
    values = understand(data)
    log.form = values.log_format
    prctl.set_name(b"forkserver")  # and of the children: `ps -C forkserver` shows them all
    listeners = [socket.socket(fileno=fd) for fd in fds]
    for listener in listeners:
        listener.setblocking(False)
    root_fd = confine.open_root(values.root)
    table = SlotTable(values.max_children)
    socket.send_fds(channel, [control.TABLE], [table.fd])
    table.close_file()
    handover = Handover()
    warm_up(values)
    equipment = worker.Equipment(values, root_fd, table, handover.intake, log)
    signal.signal(signal.SIGUSR1, equipment.tap)  # for the children: nobody waits in the master
    start_ns = time.time_ns()
    master = Master(
        listeners=listeners,
        orders=Orders(channel),
        signals=SignalPipe((signal.SIGCHLD,)),
        available_fd=handover.available_fd,
        pool=Pool(values, handover, table, functools.partial(worker.work, equipment), log),
        refusals=Refusals(Identity(os.getpid(), start_ns)),
        log=log,
    )
    log.event("confined", pid=os.getpid(), no_new_privs=1, landlock_abi=confine.lock_in(root_fd))
    if os.geteuid() == 0:
        log.event("warning", reason="running as root; give the server a user of its own that can only read the files")
    return master


def understand(data: bytes) -> settings.Settings:
    """The settings that the supervisor sent. Raises OperatorError where an upgrade has made them another language."""
    try:
        return settings.decode(data)
    except (ValueError, TypeError) as error:
        raise OperatorError(
            f"{error}; it was sent by a supervisor of another version than this, {__version__}, which is installed "
            "now: restart the server (systemctl restart forkserver)"
        ) from error


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
