"""The PID file: locked as long as the server lives, with the PID inside for people.

Runs in the operator's command and in the supervisor.

The lock counts, never the number in the file. The lock ends with the process that holds it, and the kernel tells which
process that is (F_GETLK, fcntl(2)), so a reused PID is never taken for the server's.

The lock is a POSIX lock, because the kernel tells the holder of these only. POSIX locks have three properties that
matter here. A fork does not inherit them, so the daemon locks after its last fork. A process loses the lock when it
closes *any* descriptor of the file, so the holder must call nothing but ``release`` on its file. And any process that
can read the file can take a read lock, which would block ours, so other users must not be able to read it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct

from forkserver.errors import OperatorError
from forkserver.front.terminal import escape

DEFAULT_PATH = "/run/forkserver.pid"
_MODE = 0o600
_FLOCK = "hhqqi"  # struct flock of fcntl(2): type, whence, start, length, PID
_ATTEMPTS = 10
_MAX_DIGITS = 10


class RunningError(Exception):
    """Another process holds the lock: ``pid``."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"already running as PID {pid}")
        self.pid = pid


def holder(path: str, kind_asked: int = fcntl.F_RDLCK) -> int | None:
    """Return the PID of the server that holds the file's lock, or None. Raises OperatorError.

    With F_WRLCK, return the PID of any process that holds a lock. The holder itself must not call this: it would lose
    the lock.
    """
    fd = _open_to_look(path)
    if fd is None:
        return None
    try:
        return _holder(path, fd, kind_asked)
    finally:
        os.close(fd)


def written(path: str) -> int | None:
    """Return the PID in the file, which another process may have by now, or None without a file or a number.

    Raises OperatorError if the file cannot be read.
    """
    fd = _open_to_look(path)
    if fd is None:
        return None
    try:
        text = os.read(fd, _MAX_DIGITS + 1).strip()
    finally:
        os.close(fd)
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None


def hold(path: str, fd_floor: int) -> int:
    """Create the file if there is none, lock it, write this process's PID, and return the locked descriptor.

    The descriptor is ``fd_floor`` or above. Raises RunningError if a server holds the lock, and OperatorError if the
    file cannot be used.
    """
    for _ in range(_ATTEMPTS):
        fd = _open_to_hold(path, fd_floor)
        taken = False
        try:
            taken = _take(path, fd)
        except OSError as error:
            raise _error(path, f"cannot write it: {error.strerror}", "name another file") from error
        finally:
            if not taken:
                os.close(fd)
        if taken:
            return fd
    raise _error(path, _explain_lock(path), "remove the file, or name another")


def release(path: str, fd: int) -> None:
    """Empty the file and remove it if this user may, then unlock it. ``fd`` is the descriptor from ``hold``."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        if _is_at(path, fd):
            os.unlink(path)
    os.close(fd)


def remove_stale(path: str) -> None:
    """Remove the file if no living server holds it and this user may; otherwise do nothing."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    # Remove the file under the lock. Otherwise a server that is just starting could lose the file that it has locked.
    if stat.S_ISREG(os.fstat(fd).st_mode) and _lock(fd):
        release(path, fd)
    else:
        os.close(fd)


def _open_to_look(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except PermissionError as error:
        raise _error(path, "cannot read it: only root and its owner may look", "ask as one of them") from error
    except OSError as error:
        raise _error(path, f"cannot read it: {_reason(error)}", "name another file") from error


def _open_to_hold(path: str, fd_floor: int) -> int:
    try:
        # Follow no link: root may be told to write in a directory that other users can write to.
        low = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)
    except OSError as error:
        remedy = "create its directory, or name another file" if error.errno == errno.ENOENT else "name another file"
        raise _error(path, f"cannot open it: {_reason(error)}", remedy) from error
    # Close the low descriptor before locking: closing it later would end the lock.
    fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, fd_floor)
    os.close(low)
    state = os.fstat(fd)
    is_file = stat.S_ISREG(state.st_mode)
    if is_file and state.st_uid in (0, os.geteuid()):
        return fd
    os.close(fd)
    if not is_file:
        raise _error(path, "is not a regular file", "name another file")
    complaint = f"belongs to another user, UID {state.st_uid}, who could lock it"
    raise _error(path, complaint, "remove it, or name another file")


def _take(path: str, fd: int) -> bool:
    """Lock the file and write the PID; return False if the caller must open the file again.

    False: the file was removed before it was locked, or its holder ended just now. Raises RunningError.
    """
    if not _lock(fd):
        pid = _holder(path, fd, fcntl.F_RDLCK)
        if pid is not None:
            raise RunningError(pid)
        return False
    if not _is_at(path, fd):
        return False
    if stat.S_IMODE(os.fstat(fd).st_mode) != _MODE:
        os.fchmod(fd, _MODE)  # the file was made by hand, or by an older version
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return True


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, by fcntl(2)
        return False
    return True


def _explain_lock(path: str) -> str:
    """Say why the file cannot be locked although no server holds it."""
    pid = holder(path, fcntl.F_WRLCK)
    if pid is None:
        return "another process keeps locking or removing it"
    return f"PID {pid}, which is no server, has locked it"


def _holder(path: str, fd: int, kind_asked: int) -> int | None:
    # F_RDLCK asks as a reader would. Only a write lock blocks a reader, and only a process that may write the file can
    # take a write lock.
    asked = struct.pack(_FLOCK, kind_asked, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    if pid <= 0:  # an OFD lock, or a holder in another PID namespace
        remedy = "give the command where that process runs"
        raise _error(path, "is locked by a process that cannot be seen from here", remedy)
    return int(pid)


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(fd))
    except FileNotFoundError:
        return False


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)


def _error(path: str, complaint: str, remedy: str) -> OperatorError:
    return OperatorError(f"--pid-file: {escape(path)}: {complaint}; {remedy}")
