"""Read and check the metadata of a file or directory that a server sent. Runs in the client."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, NamedTuple

from forkserver.protocol.messages import ProtocolError, Status
from forkserver.protocol.native import decode_number, decode_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST = 2**63 - 1
_MODE = re.compile("[0-7]{1,4}")


class Metadata(NamedTuple):
    """The metadata of a file or directory. ``kind`` is ``file`` or ``dir``.

    ``size`` is in bytes, None for a directory. ``mtime_ns`` is in nanoseconds since 1970. ``mtime``, ``mode`` and
    ``etag`` are as on the wire.
    """

    kind: str
    size: int | None
    mtime: str
    mode: str
    etag: str | None
    mtime_ns: int

    @property
    def permissions(self) -> str:
        """Kind and mode as ``ls -l`` shows them: ``-rw-r--r--``."""
        return stat.filemode((stat.S_IFDIR if self.kind == "dir" else stat.S_IFREG) | int(self.mode, 8))


def read_metadata(kind: str, fields: Mapping[str, str]) -> Metadata:
    """Return the metadata in the ``fields`` of a reply or an entry, of which ``kind`` is the type on the wire.

    Raises ProtocolError if a field is missing or malformed.
    """
    if kind not in ("file", "dir"):
        raise ProtocolError(Status.BAD_REQUEST, "a type other than file and dir")
    size = decode_number(fields.get("size", "")) if kind == "file" else None
    if size is not None and size > _LARGEST:
        raise ProtocolError(Status.BAD_REQUEST, "a size no file can have")
    mtime, mode = fields.get("mtime", ""), fields.get("mode", "")
    if not _MODE.fullmatch(mode):
        raise ProtocolError(Status.BAD_REQUEST, "a mode has one to four octal digits")
    return Metadata(kind, size, mtime, mode, fields.get("etag"), decode_time(mtime))
