"""Restrict a process to reading one directory tree, by Landlock, landlock(7).

Where the kernel has no Landlock (before 5.13, or switched off), ``restrict_to`` restricts nothing and returns 0, and
the caller decides whether to go on. Where the kernel knows fewer rights than this module, it restricts those it knows.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from forkserver.kernel import libc

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_READ_FILE = 1 << 2
_READ_DIR = 1 << 3
# Number of file-system rights by ABI version; the later ones add REFER, TRUNCATE and IOCTL_DEV.
_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_FS_RIGHTS_NEWEST = 16
_NET_BIND_TCP_AND_CONNECT_TCP = 0b11
_SCOPE_ABSTRACT_UNIX_SOCKET_AND_SIGNAL = 0b11
_ABI_NET, _ABI_SCOPE = 4, 6


def restrict_to(root_fd: int) -> int:
    """Allow this process and its descendants only to read files and list directories beneath ``root_fd``.

    Forbid TCP bind and connect (ABI 4), and signals to and abstract sockets of other processes (ABI 6). Open
    descriptors stay usable. The process must have set no_new_privs. Return the kernel's ABI version, 0 where there is
    no Landlock. Raises OSError.
    """
    abi = _abi()
    if not abi:
        return 0
    attributes = [(1 << _FS_RIGHTS.get(abi, _FS_RIGHTS_NEWEST)) - 1]
    if abi >= _ABI_NET:
        attributes.append(_NET_BIND_TCP_AND_CONNECT_TCP)
    if abi >= _ABI_SCOPE:
        attributes.append(_SCOPE_ABSTRACT_UNIX_SOCKET_AND_SIGNAL)
    struct = (ctypes.c_uint64 * len(attributes))(*attributes)
    size = ctypes.c_size_t(ctypes.sizeof(struct))
    ruleset_fd = libc.syscall(_SYS_CREATE_RULESET, ctypes.byref(struct), size, 0)
    try:
        # struct landlock_path_beneath_attr is packed: the rights in 64 bits, the directory in 32.
        rule = (_READ_FILE | _READ_DIR).to_bytes(8, sys.byteorder) + root_fd.to_bytes(4, sys.byteorder)
        libc.syscall(_SYS_ADD_RULE, ruleset_fd, _RULE_PATH_BENEATH, rule, 0)
        libc.syscall(_SYS_RESTRICT_SELF, ruleset_fd, 0)
    finally:
        os.close(ruleset_fd)
    return abi


def _abi() -> int:
    try:
        return libc.syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
            return 0
        raise
