"""LIST: what is beneath a directory, an entry at a time, at constant memory. Runs in a child.

The directories open at once are those between the one asked for and the one being read, two descriptors each;
MAX_DEPTH bounds them.
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
"""Levels beneath the directory asked for that a recursive listing descends."""


def entries(
    docroot: Docroot, name: bytes, top: Found, *, recursive: bool, inline: InlineContents | None
) -> Iterator[Entry | None]:
    """Yield what is beneath ``top``, opened as ``name``; None for what is not to be told, for it took time, too.

    ``inline``, where there is one, adds the content of small files. Raises OSError where a directory cannot be read
    to its end.
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
    """One directory being read. An entry's stat needs ``found`` open: os.scandir reads from a duplicate."""

    __slots__ = ("_items", "_next", "found", "prefix")

    def __init__(self, prefix: bytes, found: Found) -> None:
        self.prefix = prefix
        self.found = found
        self._items = os.scandir(found.fd)
        # Read ahead: what cannot be read at all is to be told with its entry, before anything beneath it.
        try:
            self._next = next(self._items, None)
        except OSError:
            self._items.close()
            raise

    def next(self) -> os.DirEntry[str] | None:
        """The next entry; None: there is none. Raises OSError."""
        item, self._next = self._next, None
        return item or next(self._items, None)

    def close(self, keep: Found) -> None:
        """Give the descriptors back; that of ``keep`` is its owner's."""
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
        # One component, no link followed, beneath a directory that was opened behind the walls: cannot lead astray.
        info = item.stat(follow_symlinks=False)
    except OSError:
        return None  # gone since it was read, or in a directory that may not be searched, or the file system fails
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
        return None  # leads nowhere, out of the root, or to what is not served
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
        found.close()  # it was replaced since it was looked at, perhaps by a link
        return
    try:
        stack.append(_Level(entry.name + b"/", found))
    except OSError:
        entry.fields["error"] = Status.INTERNAL_ERROR.word
        found.close()
