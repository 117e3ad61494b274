"""The PID file: a lock that lives as long as the server, and its PID inside for people. Runs in front and supervisor.

What is believed is the lock, never the number: a lock ends with the process that holds it, and the kernel tells who
that is (F_GETLK, fcntl(2)), so that a PID which has come round to a stranger is never taken for the server's. It is a
POSIX lock because only of those the kernel tells the holder. Two habits of theirs matter here: no fork inherits them,
so the daemon takes it after its last one; and a process that closes *any* descriptor of the file loses it, so a holder
must call nothing else of this module on its file. And whoever may read a file may lock it for reading, which is in the
way of ours: so no other user may.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct

from forkserver.errors import OperatorError
from forkserver.front.configfile import escape

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


def holder(path: str) -> int | None:
    """PID of the server that holds the file's lock now; None: none does. Raises OperatorError.

    Not for the holder itself, see above.
    """
    fd = _open_to_look(path)
    if fd is None:
        return None
    try:
        return _holder(path, fd)
    finally:
        os.close(fd)


def written(path: str) -> int | None:
    """The PID in the file, whoever may have it by now; None: there is no file, or no number in it."""
    fd = _open_to_look(path)
    if fd is None:
        return None
    try:
        text = os.read(fd, _MAX_DIGITS + 1).strip()
    finally:
        os.close(fd)
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else None


def hold(path: str, fd_floor: int) -> int:
    """Lock the file, made where there is none, and write this process's PID; returns the descriptor, the lock with it.

    The descriptor is ``fd_floor`` or above. Raises RunningError, and OperatorError where the file cannot be had.
    """
    for _ in range(_ATTEMPTS):
        fd = _open_to_hold(path, fd_floor)
        try:
            if _take(path, fd):
                return fd
        except OSError as error:
            os.close(fd)
            raise _error(path, f"cannot write it: {error.strerror}", "name another file") from error
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise _error(path, _nuisance(path), "remove the file, or name another")


def check(path: str) -> None:
    """Whether this user could ``hold`` a file that there is, once nobody else does. Raises OperatorError."""
    os.close(_open_to_hold(path, 0))


def release(path: str, fd: int) -> None:
    """Take the file away, still locked, or empty it, where this user may not; then give the lock up."""
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
        if _is_at(path, fd):
            os.unlink(path)
    os.close(fd)


def remove_stale(path: str) -> None:
    """Remove the file if no living server holds it and this user may; else nothing happens."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    # Under the lock, so that a server that is just starting does not lose what it has locked: see hold.
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
        # Never through a link: root may be asked to write in a directory that others can write to.
        low = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, _MODE)
    except OSError as error:
        remedy = "create its directory, or name another file" if error.errno == errno.ENOENT else "name another file"
        raise _error(path, f"cannot open it: {_reason(error)}", remedy) from error
    # Before it is locked: closing the low one after would end the lock.
    fd = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, fd_floor)
    os.close(low)
    state = os.fstat(fd)
    complaint = ""
    if not stat.S_ISREG(state.st_mode):
        complaint, remedy = "is not a regular file", "name another file"
    elif state.st_uid not in (0, os.geteuid()):
        complaint = f"belongs to another user, UID {state.st_uid}, who could lock it"
        remedy = "remove it, or name another file"
    if complaint:
        os.close(fd)
        raise _error(path, complaint, remedy)
    return fd


def _take(path: str, fd: int) -> bool:
    """Whether the file is now ours. Not so: it was removed before we had it locked, or who had it ended just now."""
    if not _lock(fd):
        pid = _holder(path, fd)
        if pid is not None:
            raise RunningError(pid)
        return False
    if not _is_at(path, fd):
        return False
    if stat.S_IMODE(os.fstat(fd).st_mode) != _MODE:
        os.fchmod(fd, _MODE)  # an older version's, or one that somebody made by hand
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return True


def _lock(fd: int) -> bool:
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _nuisance(path: str) -> str:
    """Why the lock cannot be had although no server holds it."""
    fd = _open_to_look(path)
    if fd is not None:
        try:
            pid = _holder(path, fd, fcntl.F_WRLCK)
        finally:
            os.close(fd)
        if pid is not None:
            return f"PID {pid}, which is no server, has locked it"
    return "somebody else keeps locking or removing it"


def _holder(path: str, fd: int, kind_asked: int = fcntl.F_RDLCK) -> int | None:
    # Asked as a reader would: only a writer's lock is in its way, and that takes the right to write the file.
    asked = struct.pack(_FLOCK, kind_asked, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    if kind == fcntl.F_UNLCK:
        return None
    if pid <= 0:  # an OFD lock, or a holder of another PID namespace
        raise _error(path, "is locked by a process that cannot be seen from here", "use it where that one runs")
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
