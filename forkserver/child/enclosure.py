"""Small files within a listing: each comes with its entry. Runs in a child."""

from __future__ import annotations

import os
import stat

from forkserver.child.docroot import READ, Found, metadata
from forkserver.child.transfer import digest_of_bytes
from forkserver.protocol.messages import Entry


class Enclosure:
    """Encloses files of at most ``limit_bytes``, with their ``digest`` where one is wanted."""

    __slots__ = ("_digest", "_limit_bytes")

    def __init__(self, limit_bytes: int, digest: str | None) -> None:
        self._limit_bytes = limit_bytes
        self._digest = digest

    def entry(self, name: bytes, directory_fd: int, component: str, seen: os.stat_result) -> Entry | None:
        """The entry of the regular file ``component``, ``seen`` in ``directory_fd``, with all of its content.

        None where that is not to be had: whoever asks for the file alone is told why.
        """
        if seen.st_size > self._limit_bytes:
            return None
        try:
            found = Found(os.open(component, READ, dir_fd=directory_fd), name)
        except OSError:
            return None
        try:
            content = self._read(found)
        except OSError:
            return None
        finally:
            found.close()
        if content is None:
            return None
        fields = metadata(found.info)
        fields["length"] = fields["size"]
        if self._digest is not None:
            fields["digest"] = digest_of_bytes(content, self._digest)
        return Entry("file", name, fields, content)

    def _read(self, found: Found) -> bytes | None:
        """None if it is another file since it was seen, or was written to meanwhile."""
        size = found.info.st_size
        if not stat.S_ISREG(found.info.st_mode) or size > self._limit_bytes:
            return None
        content = os.pread(found.fd, size, 0)
        return content if len(content) == size and found.is_unwritten() else None
