"""List what is beneath a directory, one entry at a time, in constant memory. Runs in a child.

The directories on the way from the listed directory to the one that is being read are open, with two descriptors each.
MAX_DEPTH bounds their number.
"""

from __future__ import annotations

import os
import stat

from forkserver.child.docroot import Docroot, Found, Refusal, metadata
from forkserver.protocol.messages import Entry, Status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.child.inline import InlineContents

MAX_DEPTH = 64
"""How many levels beneath the listed directory a recursive listing descends."""


def entries(
    docroot: Docroot, name: bytes, top: Found, *, recursive: bool, inline: InlineContents | None
) -> Iterator[Entry | None]:
    """Yield the entries beneath ``top``, which was opened as ``name``.

    Yield None for a skipped entry, so that the caller can check the phase meanwhile. ``inline`` adds the contents of
    small files. Raises OSError where a directory cannot be read to its end.
    """
    stack = [_Level(b"/" if name == b"/" else name + b"/", top)]
    try:
        while stack:
            level = stack[-1]
            item = level.next()
            if item is None:
                stack.pop()
                level.close(keep=top)
            elif docroot.shows(os.fsencode(item.name)):
                yield _describe(docroot, level, item, stack if recursive else None, inline)
    finally:
        for level in stack:
            level.close(keep=top)


class _Level:
    """One directory that is being read. ``found`` stays open for stat(2) of the entries; os.scandir has a duplicate."""

    __slots__ = ("_items", "_next", "found", "prefix")

    def __init__(self, prefix: bytes, found: Found) -> None:
        self.prefix = prefix
        self.found = found
        self._items = os.scandir(found.fd)
        # Read ahead: the error of a directory that cannot be read belongs into its own entry, before those beneath it.
        try:
            self._next = next(self._items, None)
        except OSError:
            self._items.close()
            raise

    def next(self) -> os.DirEntry[str] | None:
        """Return the next entry; None: there are no more. Raises OSError."""
        item, self._next = self._next, None
        return item or next(self._items, None)

    def close(self, keep: Found) -> None:
        """Close the descriptors, but not the one of ``keep``, which the caller owns."""
        self._items.close()
        if self.found is not keep:
            self.found.close()


def _describe(
    docroot: Docroot,
    level: _Level,
    item: os.DirEntry[str],
    stack: list[_Level] | None,
    inline: InlineContents | None,
) -> Entry | None:
    name = level.prefix + os.fsencode(item.name)
    try:
        # One component beneath an open directory of the served tree, no link followed: this cannot leave the root.
        info = item.stat(follow_symlinks=False)
    except OSError:
        return None  # the entry is gone, or the directory may not be searched, or the file system fails
    if stat.S_ISREG(info.st_mode):
        whole = inline and inline.entry(name, level.found, item.name, info)
        return whole or Entry("file", name, metadata(info))
    if stat.S_ISLNK(info.st_mode):
        return _describe_link(docroot, name)
    if not stat.S_ISDIR(info.st_mode):
        return None
    entry = Entry("dir", name, metadata(info))
    if stack is not None:
        _descend(docroot, entry, info, stack)
    return entry


def _describe_link(docroot: Docroot, name: bytes) -> Entry | None:
    try:
        found = docroot.open(name)
    except Refusal:
        return None  # the link leads nowhere, out of the root, or to something that is not served
    fields = metadata(found.info)
    found.close()
    return Entry("dir", name, {**fields, "link": "1"}) if found.is_directory else Entry("file", name, fields)


def _descend(docroot: Docroot, entry: Entry, seen: os.stat_result, stack: list[_Level]) -> None:
    if len(stack) > MAX_DEPTH:
        entry.fields["error"] = Status.TOO_LONG.word
        return
    try:
        found = docroot.open(entry.name)
    except Refusal as refusal:
        entry.fields["error"] = refusal.status.word
        return
    if (found.info.st_dev, found.info.st_ino) != (seen.st_dev, seen.st_ino):
        found.close()  # the directory was replaced since its stat(2), perhaps by a link
        return
    try:
        stack.append(_Level(entry.name + b"/", found))
    except OSError:
        entry.fields["error"] = Status.INTERNAL_ERROR.word
        found.close()
