"""Open the regular file or directory that a client named, or refuse with a reason. Runs in a child.

Three walls keep a name inside the served directory. Lexical: no component is empty, ``.`` or ``..``, or holds a NUL.
The walk (``walk``): no link leads out of the root. The kernel: the Landlock domain inherited from the master.

A name is checked with stat(2) before it is opened, because opening a FIFO wakes its writer and opening a device may do
anything. The metadata that a client gets is always that of the open descriptor.
"""

from __future__ import annotations

import errno
import os
import stat

from forkserver.child.walk import locate
from forkserver.protocol import native
from forkserver.protocol.messages import Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from forkserver.child.walk import Walk

    Looked = TypeVar("Looked")

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""Flags to open a file after its stat(2): if the file was replaced meanwhile, follow no link and never block."""
_MAX_UNSURE = 32

_REFUSALS = {
    errno.ENOENT: (Status.NOT_FOUND, "does not exist on the server"),
    errno.ENOTDIR: (Status.NOT_FOUND, "does not exist on the server"),
    errno.ENAMETOOLONG: (Status.NOT_FOUND, "does not exist on the server: the name is too long for it"),
    errno.EXDEV: (Status.FORBIDDEN, "leads out of the served directory"),
    errno.ELOOP: (Status.FORBIDDEN, "is a loop of symbolic links, or leads out of the served directory"),
    errno.EACCES: (Status.FORBIDDEN, "the server may not read it"),
    errno.EPERM: (Status.FORBIDDEN, "the server may not read it"),
    errno.ENXIO: (Status.NOT_A_FILE, "is no regular file"),
    errno.ENODEV: (Status.NOT_A_FILE, "is no regular file"),
    errno.EAGAIN: (Status.BUSY, "is being replaced, or held by another program; try later"),
    errno.EMFILE: (Status.BUSY, "the server is out of descriptors; try again"),
    errno.ENFILE: (Status.BUSY, "the server is out of descriptors; try again"),
    errno.ENOMEM: (Status.BUSY, "the server is out of memory; try again"),
}


class Refusal(Exception):
    """The client may not have what it named. ``status`` and ``message`` are those of the reply."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Found:
    """An open regular file or directory; close it. ``fd`` is the descriptor, ``info`` its fstat(2) when opened."""

    __slots__ = ("fd", "info", "is_directory", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path
        self.info = os.fstat(fd)
        self.is_directory = stat.S_ISDIR(self.info.st_mode)

    def fields(self) -> dict[str, str]:
        """Return the metadata as reply fields."""
        kind = "dir" if self.is_directory else "file"
        return {"type": kind, **metadata(self.info)}

    def is_unwritten(self) -> bool:
        """Return whether nobody has written to the file or renamed it since it was opened."""
        return _version(os.fstat(self.fd)) == _version(self.info)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.fd)


class Docroot:
    """The served tree beneath ``root_fd``. ``hidden``: serve names that begin with a dot."""

    __slots__ = ("_hidden", "_root_fd")

    def __init__(self, root_fd: int, *, hidden: bool) -> None:
        self._root_fd = root_fd
        self._hidden = hidden

    def open(self, name: bytes) -> Found:
        """Open the file or directory ``name``, decoded and with its leading slash. Raises Refusal."""
        path = self.resolve(name)
        try:
            return _surely(self._open, path)
        except OSError as error:
            raise refusal(error) from error

    def resolve(self, name: bytes) -> bytes:
        """Return the path of ``name`` relative to the root. This is the lexical wall. Raises Refusal."""
        if name == b"/":
            return b"."
        path = name[1:]
        if b"\0" in path:
            raise Refusal(Status.FORBIDDEN, "a name cannot hold a NUL byte")
        components = path.split(b"/")
        if b"" in components or b"." in components or b".." in components:
            raise Refusal(Status.FORBIDDEN, "a name cannot have an empty, . or .. component")
        if not self._hidden and b"/." in name:
            raise Refusal(*_REFUSALS[errno.ENOENT])
        return path

    def shows(self, component: bytes) -> bool:
        """Return whether a single component is served: whether it is not hidden."""
        return self._hidden or not component.startswith(b".")

    def still_is(self, found: Found) -> bool:
        """Return whether the name still leads to the opened file, and nobody has written to the file since."""
        info = self._look(found.path)
        return info is not None and _version(info) == _version(found.info)

    def still_leads_to(self, directory: Found) -> bool:
        """Return whether the name still leads to the opened directory, whatever the directory holds by now."""
        info = self._look(directory.path)
        return info is not None and (info.st_dev, info.st_ino) == (directory.info.st_dev, directory.info.st_ino)

    def _look(self, path: bytes) -> os.stat_result | None:
        try:
            place = _surely(self._locate, path)
        except OSError:
            return None
        place.close()
        return place.info

    def _locate(self, path: bytes) -> Walk:
        return locate(self._root_fd, path)

    def _open(self, path: bytes) -> Found:
        place = self._locate(path)
        try:
            if not _is_served(place.info):
                raise Refusal(Status.NOT_A_FILE, "is no regular file")
            found = Found(self._open_here(place), path)
        finally:
            place.close()
        # The file may have been replaced between stat(2) and open(2). O_NONBLOCK kept a FIFO from blocking the child.
        if _is_served(found.info):
            return found
        found.close()
        raise Refusal(Status.NOT_A_FILE, "is no regular file")

    def _open_here(self, place: Walk) -> int:
        try:
            return os.open(place.name, READ, dir_fd=place.directory_fd)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise BlockingIOError(errno.EAGAIN, "a link since we looked") from error
            raise


def _surely(look: Callable[[bytes], Looked], path: bytes) -> Looked:
    """Return ``look(path)``. Try again while the name changes its kind (EAGAIN); after 32 times raise the error."""
    for _ in range(_MAX_UNSURE):
        try:
            return look(path)
        except BlockingIOError:
            continue
    return look(path)


def _is_served(info: os.stat_result) -> bool:
    return stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)


def refusal(error: OSError) -> Refusal:
    """Return the refusal for a failed open."""
    status, message = _REFUSALS.get(error.errno or 0, (Status.INTERNAL_ERROR, "the server could not open it"))
    return Refusal(status, message)


def metadata(info: os.stat_result) -> dict[str, str]:
    """Return the fields that replies and entries of listings have in common."""
    common = {"mtime": native.encode_time(info.st_mtime_ns), "mode": f"{stat.S_IMODE(info.st_mode):o}"}
    if stat.S_ISDIR(info.st_mode):
        return common
    return {"size": str(info.st_size), **common, "etag": validator(info)}


def _version(info: os.stat_result) -> tuple[int, ...]:
    """Return what identifies a content. Change time and inode are part of it: a copy may keep the modification time."""
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_dev, info.st_ino


def validator(info: os.stat_result) -> str:
    """Return the etag."""
    size, modified, changed, device, inode = _version(info)
    return f"{size:x}-{modified:x}-{changed:x}-{device:x}.{inode:x}"
