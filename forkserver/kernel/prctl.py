"""Set attributes of a process by prctl(2)."""

from __future__ import annotations

import ctypes

from forkserver.kernel import libc

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def set_no_new_privs() -> None:
    """Forbid for good that an exec of this process or a descendant gains a privilege. Raises OSError."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """Forbid other processes of the user to trace this process and its children, or to take memory or descriptors.

    This concerns ptrace(2), process_vm_writev(2) and pidfd_getfd(2). Core dumps are switched off, too. Raises OSError.
    """
    libc.prctl(_PR_SET_DUMPABLE, 0)


def set_child_subreaper() -> None:
    """Make orphans among the descendants children of this process. A fork does not inherit this. Raises OSError."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: bytes) -> None:
    """Set the command name of this thread, as ps(1) shows it. The kernel cuts it to 15 bytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(name)
    libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer))
