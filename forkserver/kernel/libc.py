"""Call the C library, for what the standard library does not wrap. Runs in supervisor, master and child."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(number: int, *arguments: object) -> int:
    """Call syscall(2). An int is passed as a C int; pass wider values as ctypes values. Raises OSError."""
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments))


def prctl(option: int, argument: int) -> None:
    """Call prctl(2) with one argument. Raises OSError."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero))


def function(name: str) -> Callable[..., int]:
    """Return the C function ``name``, which takes ints and pointers and returns an int.

    Use this for a call that the master makes once per fork. Each page that the master touches after a fork is copied,
    and a call without ``errno`` and declared argument types touches fewer pages.
    """
    return ctypes.CDLL(None)[name]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
