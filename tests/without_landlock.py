"""``forkserver`` as on a kernel without Landlock: its system calls fail with ENOSYS.

The program simulates that at the wall to the kernel, ``kernel.libc``; the code above it is the shipped one. This file
is both programs: the command, and, where Python is isolated, the master that the command's supervisor starts.
"""

from __future__ import annotations

import errno
import os
import sys

LANDLOCK_CALLS = (444, 445, 446)


def forget_landlock() -> None:
    """Let this process find no Landlock in the kernel."""
    from forkserver.kernel import libc  # noqa: PLC0415 - a master finds it only when `sys.path` is complete

    known = libc.syscall

    def syscall(number: int, *arguments: object) -> int:
        if number in LANDLOCK_CALLS:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return known(number, *arguments)

    libc.syscall = syscall


def run_master() -> int:
    """Be a master, started as ``supervisor.generation`` starts one."""
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from forkserver.master import __main__  # noqa: PLC0415 - likewise

    forget_landlock()
    return __main__.main(int(sys.argv[1]))


def run_command() -> None:
    """Be the ``forkserver`` command, with such masters."""
    from forkserver.front import cli  # noqa: PLC0415 - a master must not load it
    from forkserver.supervisor import generation  # noqa: PLC0415 - likewise

    generation.COMMAND = (sys.executable, "-I", "-S", "-E", os.path.abspath(__file__))
    cli.main()


if __name__ == "__main__":
    if sys.flags.isolated:
        sys.exit(run_master())
    run_command()
