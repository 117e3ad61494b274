"""From the name a client asked for to an open regular file or directory, or a named refusal. Runs in a child.

Three walls. The lexical one: no component is empty, ``.``, ``..`` or holds a NUL. The walk's: no link leads out of the
root (``walk``). The kernel's: the Landlock domain inherited from the master. A name is looked at before it is opened:
opening a FIFO wakes its writer, opening a device may do anything. What a client is told is always of the descriptor.
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
"""How a file is opened that was looked at: should it be another by now, no link is followed and nothing waited for."""
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
    """The client cannot have what it named. ``status`` and ``message`` are the reply's."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Found:
    """An open regular file or directory; close it. ``fd`` is its descriptor, ``info`` its fstat(2) at the opening."""

    __slots__ = ("fd", "info", "is_directory", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path
        self.info = os.fstat(fd)
        self.is_directory = stat.S_ISDIR(self.info.st_mode)

    def fields(self) -> dict[str, str]:
        """The metadata as reply fields."""
        kind = "dir" if self.is_directory else "file"
        return {"type": kind, **metadata(self.info)}

    def is_unwritten(self) -> bool:
        """Whether nobody has written to it, and no other file taken its name, since it was opened."""
        return _version(os.fstat(self.fd)) == _version(self.info)

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self.fd)


class Docroot:
    """The served tree beneath ``root_fd``. ``hidden``: names that begin with a dot exist."""

    __slots__ = ("_hidden", "_root_fd")

    def __init__(self, root_fd: int, *, hidden: bool) -> None:
        self._root_fd = root_fd
        self._hidden = hidden

    def open(self, name: bytes) -> Found:
        """Open what ``name`` (decoded, with its leading slash) stands for. Raises Refusal."""
        path = self.resolve(name)
        try:
            return _surely(self._open, path)
        except OSError as error:
            raise refusal(error) from error

    def resolve(self, name: bytes) -> bytes:
        """The lexical wall: the path of ``name`` relative to the root. Raises Refusal."""
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
        """Whether a single component is not hidden."""
        return self._hidden or not component.startswith(b".")

    def still_is(self, found: Found) -> bool:
        """Whether the name still stands for the file that was opened, and nobody has written to it since."""
        info = self._look(found.path)
        return info is not None and _version(info) == _version(found.info)

    def still_leads_to(self, directory: Found) -> bool:
        """Whether the name still stands for the directory that was opened, whatever is in it by now."""
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
        # Between look and open another may have put something else there; O_NONBLOCK kept a FIFO from holding us.
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
    """``look(path)``, again where the name changed its kind meanwhile, which is EAGAIN; in the end raise it."""
    for _ in range(_MAX_UNSURE):
        try:
            return look(path)
        except BlockingIOError:
            continue
    return look(path)


def _is_served(info: os.stat_result) -> bool:
    return stat.S_ISREG(info.st_mode) or stat.S_ISDIR(info.st_mode)


def refusal(error: OSError) -> Refusal:
    """What the client is told of a failed open."""
    status, message = _REFUSALS.get(error.errno or 0, (Status.INTERNAL_ERROR, "the server could not open it"))
    return Refusal(status, message)


def metadata(info: os.stat_result) -> dict[str, str]:
    """The fields that reply and listing have in common."""
    common = {"mtime": native.encode_time(info.st_mtime_ns), "mode": f"{stat.S_IMODE(info.st_mode):o}"}
    if stat.S_ISDIR(info.st_mode):
        return common
    return {"size": str(info.st_size), **common, "etag": validator(info)}


def _version(info: os.stat_result) -> tuple[int, ...]:
    """Change time and inode are part of it: a copy that kept its times is still another content."""
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_dev, info.st_ino


def validator(info: os.stat_result) -> str:
    """The etag."""
    size, modified, changed, device, inode = _version(info)
    return f"{size:x}-{modified:x}-{changed:x}-{device:x}.{inode:x}"
