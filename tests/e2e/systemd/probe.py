"""Tries what must fail in a child of the service, each act by itself. Part of a child, or a program of its own.

As a program it is given the acts to try, and prints how each ended, as JSON.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
MODULE = b"not a module"
SYS_INIT_MODULE, SYS_PERF_EVENT_OPEN, SYS_BPF = (175, 298, 321) if os.uname().machine == "x86_64" else (105, 241, 280)
NOWHERE = 1
"""No address: the kernel says EFAULT to it, unless a filter of system calls has said EPERM before."""


def call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")


def connect(kind):
    with socket.socket(socket.AF_INET, kind) as connection:
        connection.settimeout(2)
        connection.connect(("127.0.0.1", 2057))


def fork():
    if not os.fork():
        os._exit(0)


def create_in(directory):
    """Make a file of a name that nobody else has, and remove it."""
    path = f"{directory}/probe-{os.getpid()}-{time.monotonic_ns()}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.unlink(path)


def read(path):
    os.close(os.open(path, os.O_RDONLY))


ACTS = {
    "write to the root": lambda: create_in("/srv/files"),
    "overwrite a file of the root": lambda: os.close(os.open("/srv/files/file", os.O_WRONLY)),
    "remove a file of the root": lambda: os.unlink("/srv/files/spare"),
    "change a mode in the root": lambda: os.chmod("/srv/files/file", 0o644),
    "write to /etc": lambda: create_in("/etc"),
    "write to /run": lambda: create_in("/run"),
    "write to its own /tmp": lambda: create_in("/tmp"),
    "read /etc/shadow": lambda: read("/etc/shadow"),
    "read what all may read": lambda: read("/etc/passwd"),
    "list /root": lambda: os.listdir("/root"),
    "see others' /tmp": lambda: os.stat("/tmp/of-another"),
    "see process 1": lambda: os.stat("/proc/1"),
    "see the kernel's settings": lambda: os.stat("/proc/sys/kernel"),
    "open a connection": lambda: connect(socket.SOCK_STREAM),
    "send a datagram": lambda: connect(socket.SOCK_DGRAM),
    "become root": lambda: os.setresuid(0, 0, 0),
    "change an owner": lambda: os.chown("/tmp", 0, 0),
    "change the root directory": lambda: call(LIBC.chroot, ctypes.c_void_p(NOWHERE)),
    "name the host": lambda: socket.sethostname("other"),
    "mount": lambda: call(LIBC.mount, ctypes.c_void_p(NOWHERE), b"/tmp", b"tmpfs", 0, None),
    "make a namespace": lambda: call(LIBC.unshare, CLONE_NEWUSER),
    "load a module": lambda: call(LIBC.syscall, SYS_INIT_MODULE, MODULE, len(MODULE), b""),
    "watch performance": lambda: call(LIBC.syscall, SYS_PERF_EVENT_OPEN, ctypes.c_void_p(NOWHERE), 0, -1, -1, 0),
    "load BPF": lambda: call(LIBC.syscall, SYS_BPF, 0, None, 0),
    "be real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "be nicer to itself": lambda: os.nice(-5),
    "write and run memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "be another kind of system": lambda: call(LIBC.personality, 0x0008),
    "trace its parent": lambda: call(LIBC.ptrace, 16, os.getppid(), None, None),
    "signal another": lambda: os.kill(1, 0),
    "fork": fork,
    # Where it does not fail it is the last: the program then speaks for it.
    "run a program": lambda: os.execv("/usr/bin/echo", ["echo", '{"run a program": "done"}']),
}


def outcome(name):
    try:
        ACTS[name]()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


if __name__ == "__main__":
    print(json.dumps({name: outcome(name) for name in sys.argv[1:]}))  # noqa: T201
