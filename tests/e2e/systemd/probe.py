"""Runs inside the service's sandbox: tries what must fail there, and prints how each try ended, as JSON.

Arguments: the acts to try, all if there are none.
"""

import ctypes
import errno
import json
import mmap
import os
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER = 0x10000000
MODULE = b"not a module"
SYS_INIT_MODULE, SYS_PERF_EVENT_OPEN, SYS_BPF = (175, 298, 321) if os.uname().machine == "x86_64" else (105, 241, 280)


def call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")


def connect():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        connection.connect(("127.0.0.1", 2057))


def listing(path):
    if os.listdir(path):
        return
    raise OSError(errno.ENOENT, "")


ACTS = {
    "write to the root": lambda: os.close(os.open("/srv/files/new", os.O_WRONLY | os.O_CREAT)),
    "write to /etc": lambda: os.close(os.open("/etc/new", os.O_WRONLY | os.O_CREAT)),
    "write to /run": lambda: os.close(os.open("/run/new", os.O_WRONLY | os.O_CREAT)),
    "read /etc/shadow": lambda: os.close(os.open("/etc/shadow", os.O_RDONLY)),
    "list /root": lambda: listing("/root"),
    "see others' /tmp": lambda: os.stat("/tmp/of-another"),
    "see process 1": lambda: os.stat("/proc/1"),
    "see the kernel's settings": lambda: os.stat("/proc/sys/kernel"),
    "open a network socket": connect,
    "become root": lambda: os.setresuid(0, 0, 0),
    "change an owner": lambda: os.chown("/tmp", 0, 0),
    "change the root directory": lambda: os.chroot("/tmp"),
    "name the host": lambda: socket.sethostname("other"),
    "mount": lambda: call(LIBC.mount, b"none", b"/tmp", b"tmpfs", 0, None),
    "make a namespace": lambda: call(LIBC.unshare, CLONE_NEWUSER),
    "load a module": lambda: call(LIBC.syscall, SYS_INIT_MODULE, MODULE, len(MODULE), b""),
    "watch performance": lambda: call(LIBC.syscall, SYS_PERF_EVENT_OPEN, None, 0, -1, -1, 0),
    "load BPF": lambda: call(LIBC.syscall, SYS_BPF, 0, None, 0),
    "be real-time": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "be nicer to itself": lambda: os.nice(-5),
    "write and run memory": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC).close(),
    "be another kind of system": lambda: call(LIBC.personality, 0x0008),
    "trace its parent": lambda: call(LIBC.ptrace, 16, os.getppid(), None, None),
    "signal another": lambda: os.kill(1, 0),
}


def outcome(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


def state():
    with open("/proc/self/status", encoding="ascii") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    return {
        **{name: fields[name] for name in ("NoNewPrivs", "Seccomp", "CapEff", "CapBnd")},
        "uid": os.getuid(),
        "root": next(mount[5].split(",")[0] for mount in mounts if mount[4] == "/"),
    }


if __name__ == "__main__":
    print(json.dumps({"acts": {name: outcome(ACTS[name]) for name in sys.argv[1:] or ACTS}, "state": state()}))  # noqa: T201
