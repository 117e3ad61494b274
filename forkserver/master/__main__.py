"""The master's composition root: receive settings and sockets, confine the process, run. Runs in the master.

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
    # Python was started with a path and isolated, so it does not know where the package is.
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
from forkserver.master.admission import Admission
from forkserver.master.channel import ControlChannel
from forkserver.master.loop import Master
from forkserver.master.pool import Pool
from forkserver.master.refusals import Refusals
from forkserver.protocol.messages import Identity


def main(channel_fd: int) -> int:
    """Run a master for the supervisor at the other end of ``channel_fd``. Return the exit status."""
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
        return EX_CONFIG  # the supervisor is gone
    if say.startswith(control.FAILED):
        return EX_CONFIG
    # Freeze what exists now. A collection would write to every object, and so copy every page in each child.
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
    """Receive settings and sockets, make the master's parts, confine the process. Raises OperatorError and OSError."""
    # Leave it to the supervisor to act on a Ctrl-C at the terminal.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    data, fds, _flags, _address = socket.recv_fds(channel, control.MAX_PACKET_BYTES, control.MAX_LISTENERS)
    values = decode_settings(data)
    log.form = values.log_format
    prctl.set_name(b"forkserver")  # children inherit the name: `ps -C forkserver` shows all of them
    listeners = [socket.socket(fileno=fd) for fd in fds]
    for listener in listeners:
        listener.setblocking(False)
    root_fd = confine.open_root(values.root)
    table = SlotTable(values.max_children)
    socket.send_fds(channel, [control.TABLE], [table.fd])
    table.close_file()
    handover = Handover()
    warm_up(values)
    context = worker.ChildContext(values, root_fd, table, handover.intake, log)
    signal.signal(signal.SIGUSR1, context.phase_signal)  # for the children; in the master the handler does nothing
    start_ns = time.time_ns()
    admission = Admission(values.peer_limit)
    master = Master(
        listeners=listeners,
        channel=ControlChannel(channel),
        signals=SignalPipe((signal.SIGCHLD,)),
        available_fd=handover.available_fd,
        admission=admission,
        pool=Pool(
            settings=values,
            admission=admission,
            handover=handover,
            table=table,
            work=functools.partial(worker.work, context),
            log=log,
        ),
        refusals=Refusals(Identity(os.getpid(), start_ns)),
        log=log,
    )
    log.event("confined", pid=os.getpid(), no_new_privs=1, landlock_abi=confine.lock_in(root_fd))
    if os.geteuid() == 0:
        log.event("warning", reason="running as root; give the server a user of its own that can only read the files")
    return master


def decode_settings(data: bytes) -> settings.Settings:
    """Decode the settings that the supervisor sent. Raises OperatorError if they are of an incompatible version."""
    try:
        return settings.decode(data)
    except ValueError as error:
        raise OperatorError(
            f"{error}; it was sent by a supervisor of another version than this, {__version__}, which is installed "
            "now: restart the server (systemctl restart forkserver)"
        ) from error


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
