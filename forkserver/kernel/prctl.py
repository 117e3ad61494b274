"""Attributes of a process, by prctl(2)."""

from __future__ import annotations

import ctypes

from forkserver.kernel import libc

_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def set_no_new_privs() -> None:
    """No exec of this process or its descendants gains a privilege, ever again. Raises OSError."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def forbid_inspection() -> None:
    """No process of the same user may trace this one or its children, read their memory or take their descriptors.

    ptrace(2), process_vm_writev(2), pidfd_getfd(2). It leaves no core dump either. Raises OSError.
    """
    libc.prctl(_PR_SET_DUMPABLE, 0)


def set_child_subreaper() -> None:
    """Orphans among the descendants become children of this process. Not inherited by fork. Raises OSError."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_name(name: bytes) -> None:
    """The command name of this thread, as ps(1) shows it; the kernel cuts it after 15 bytes. Raises OSError."""
    buffer = ctypes.create_string_buffer(name)
    libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer))
