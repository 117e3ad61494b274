"""Attributes of a process, by prctl(2)."""

from __future__ import annotations

from forkserver.kernel import libc

_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38


def set_no_new_privs() -> None:
    """No exec of this process or its descendants gains a privilege, ever again. Raises OSError."""
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_child_subreaper() -> None:
    """Orphans among the descendants become children of this process. Not inherited by fork. Raises OSError."""
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
