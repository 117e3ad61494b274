"""Read small files for a listing, which sends each content with its entry. Runs in a child."""

from __future__ import annotations

import os
import stat

from forkserver.child.docroot import READ, Docroot, Found, metadata
from forkserver.child.transfer import digest_of_bytes
from forkserver.protocol.messages import Entry


class InlineContents:
    """Contents of files of at most ``limit_bytes``, with their ``digest`` if the peer wants one."""

    __slots__ = ("_digest", "_directory", "_docroot", "_limit_bytes", "_served")

    def __init__(self, docroot: Docroot, limit_bytes: int, digest: str | None) -> None:
        self._docroot = docroot
        self._limit_bytes = limit_bytes
        self._digest = digest
        self._directory: Found | None = None
        self._served = False

    def distrust_directory(self) -> None:
        """Check at the next file whether the directory is still in the served tree. Call this after a wait."""
        self._directory = None

    def entry(self, name: bytes, directory: Found, component: str, seen: os.stat_result) -> Entry | None:
        """Return the entry of the regular file ``component`` of ``directory``, with all of its content.

        ``seen`` is the stat(2) of the file. None: the content cannot be sent along; a GET of the file tells why.
        """
        if seen.st_size > self._limit_bytes or not self._is_served(directory):
            return None
        try:
            found = Found(os.open(component, READ, dir_fd=directory.fd), name)
            try:
                content = self._read(found)
            finally:
                found.close()
        except OSError:
            return None
        if content is None:
            return None
        fields = metadata(found.info)
        fields["length"] = fields["size"]
        if self._digest is not None:
            fields["digest"] = digest_of_bytes(content, self._digest)
        return Entry("file", name, fields, content)

    def _is_served(self, directory: Found) -> bool:
        if self._directory is not directory:
            self._directory = directory
            self._served = self._docroot.still_leads_to(directory)
        return self._served

    def _read(self, found: Found) -> bytes | None:
        """Return the content; None if the file was replaced since its stat(2), or written to meanwhile."""
        size = found.info.st_size
        if not stat.S_ISREG(found.info.st_mode) or size > self._limit_bytes:
            return None
        content = os.pread(found.fd, size, 0)
        return content if len(content) == size and found.is_unwritten() else None
