"""LIST: what is beneath a directory, an entry at a time, at constant memory. Runs in a child.

The directories open at once are those between the one asked for and the one being read, one descriptor each;
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

    Stack = list[tuple[bytes, os._ScandirIterator[str]]]  # noqa: SLF001 - typeshed's name, of no other

MAX_DEPTH = 64
"""Levels beneath the directory asked for that a recursive listing descends."""


def entries(docroot: Docroot, name: bytes, top: Found, *, recursive: bool) -> Iterator[Entry]:
    """Yield what is beneath ``top``, opened as ``name``. Raises OSError where a directory cannot be read to its end."""
    prefix = b"/" if name == b"/" else name + b"/"
    stack = [(prefix, os.scandir(top.fd))]
    try:
        while stack:
            prefix, directory = stack[-1]
            item = next(directory, None)
            if item is None:
                directory.close()
                stack.pop()
            elif docroot.shows(os.fsencode(item.name)):
                yield from _describe(docroot, prefix, item, stack if recursive else None)
    finally:
        for _, directory in stack:
            directory.close()


def _describe(
    docroot: Docroot,
    prefix: bytes,
    item: os.DirEntry[str],
    stack: Stack | None,
) -> Iterator[Entry]:
    name = prefix + os.fsencode(item.name)
    try:
        # One component, no link followed, beneath a directory that was opened behind the walls: cannot lead astray.
        info = item.stat(follow_symlinks=False)
    except OSError:
        return  # gone since it was read
    if stat.S_ISREG(info.st_mode):
        yield Entry("file", name, metadata(info))
    elif stat.S_ISLNK(info.st_mode):
        yield from _describe_link(docroot, name)
    elif stat.S_ISDIR(info.st_mode):
        entry = Entry("dir", name, metadata(info))
        if stack is not None:
            _descend(docroot, name, entry, stack)
        yield entry


def _describe_link(docroot: Docroot, name: bytes) -> Iterator[Entry]:
    try:
        found = docroot.open(name)
    except Refusal:
        return  # leads nowhere, out of the root, or to what is not served
    fields = metadata(found.info)
    found.close()
    yield Entry("dir", name, {**fields, "link": "1"}) if found.is_directory else Entry("file", name, fields)


def _descend(docroot: Docroot, name: bytes, entry: Entry, stack: Stack) -> None:
    if len(stack) > MAX_DEPTH:
        entry.fields["error"] = Status.TOO_LONG.word
        return
    try:
        found = docroot.open(name)
    except Refusal as refusal:
        entry.fields["error"] = refusal.status.word
        return
    try:
        if found.is_directory:  # else it was replaced since it was read
            stack.append((name + b"/", os.scandir(found.fd)))
    except OSError:
        entry.fields["error"] = Status.INTERNAL_ERROR.word
    finally:
        found.close()
