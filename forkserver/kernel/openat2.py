"""openat2(2): open a path that cannot leave a directory, whatever links and renames are in its way.

There is no fallback: without openat2 (Linux 5.6) the call fails with ENOSYS, and the caller must refuse to serve.
"""

from __future__ import annotations

import ctypes

from forkserver.kernel import libc

_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
_HOW_BYTES = 24


class OpenHow:
    """``struct open_how`` for ``flags`` of open(2), made once: stay beneath the directory, no magic links."""

    __slots__ = ("_struct", "pointer")

    def __init__(self, flags: int) -> None:
        self._struct = (ctypes.c_uint64 * 3)(flags, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_BENEATH)
        self.pointer = ctypes.c_void_p(ctypes.addressof(self._struct))


def openat2(dir_fd: int, path: bytes, how: OpenHow) -> int:
    """Open ``path``, relative to ``dir_fd`` and never outside of it; returns a descriptor.

    Raises OSError: EXDEV where the path would leave the directory, ELOOP for magic links and loops, EAGAIN where
    a rename elsewhere made the kernel unsure (try again), and what open(2) raises.
    """
    return libc.syscall(_SYS_OPENAT2, dir_fd, path, how.pointer, ctypes.c_size_t(_HOW_BYTES))
