"""What the server says about a file or directory, checked. Runs at the user's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client import display
from forkserver.protocol.messages import ProtocolError, Status
from forkserver.protocol.native import decode_number, decode_time

if TYPE_CHECKING:
    from collections.abc import Mapping

_LARGEST = 2**63 - 1
_MODE = re.compile("[0-7]{1,4}")


class Metadata(NamedTuple):
    """``kind`` is ``file`` or ``dir``, ``size`` is in bytes and a file's only, ``mtime_ns`` in nanoseconds since 1970.

    ``mtime``, ``mode`` and ``etag`` stand as on the wire.
    """

    kind: str
    size: int | None
    mtime: str
    mode: str
    etag: str | None
    mtime_ns: int

    @property
    def permissions(self) -> str:
        """As ``ls -l`` has them."""
        return display.permissions(self.kind, self.mode)


def read(kind: str, fields: Mapping[str, str]) -> Metadata:
    """The metadata among the fields of a reply or an entry. Raises ProtocolError where one is missing or malformed."""
    if kind not in ("file", "dir"):
        raise ProtocolError(Status.BAD_REQUEST, "a type other than file and dir")
    size = decode_number(fields.get("size", "")) if kind == "file" else None
    if size is not None and size > _LARGEST:
        raise ProtocolError(Status.BAD_REQUEST, "a size no file can have")
    mtime, mode = fields.get("mtime", ""), fields.get("mode", "")
    if not _MODE.fullmatch(mode):
        raise ProtocolError(Status.BAD_REQUEST, "a mode has one to four octal digits")
    return Metadata(kind, size, mtime, mode, fields.get("etag"), decode_time(mtime))
