"""Compare local files with a list of their digests, without a server. Runs in the client.

The list is untrusted, so no file outside the directory is read, neither by its path nor through a symbolic link. FIFOs
and devices are not read, because they could block for ever.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import stat
import sys
import time
from typing import TYPE_CHECKING

from forkserver.client.display import count, counted, escape
from forkserver.client.local import checksums
from forkserver.client.local.target import reason_of
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.protocol.messages import digest_field

if TYPE_CHECKING:
    from typing import BinaryIO

    from forkserver.client.command.report import Report

_MAX_LINE_BYTES = 1 << 14
"""A path has at most 4,096 bytes, and escapes double them. A file with longer lines is no list."""
_REMEDY = "such lists are made by --manifest, and by sha256sum(1)"


def verify(path: bytes, directory: bytes, report: Report) -> Exit:
    """Check every file in the list at ``path``, or in standard input if that is ``-``. Return the exit status.

    Names in the list are relative to ``directory``. Raises Failure, before any file is read, if the list cannot be read
    or is no list.
    """
    root = os.path.realpath(directory)
    if not os.path.isdir(root):
        raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"{escape(directory)}: no such directory; give another with -d")
    entries = _entries(path)
    found: collections.Counter[Word] = collections.Counter()
    for digest, name in entries:
        started = time.monotonic()
        try:
            _check(root, name, digest)
        except Failure as failure:
            found[failure.word] += 1
            report.failed(name, failure, time.monotonic() - started)
        else:
            report.verified(name, digest_field("sha256", digest), time.monotonic() - started)
    report.concluded(_in_words(len(entries), found))
    return report.worst


def _entries(path: bytes) -> list[tuple[str, bytes]]:
    shown = "standard input" if path == b"-" else escape(path)
    try:
        with _opened(path) as file:
            entries = list(checksums.decode(iter(functools.partial(file.readline, _MAX_LINE_BYTES), b"")))
    except OSError as error:
        raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"{shown}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Failure(Exit.USAGE, Word.USAGE, f"{shown}: {error}; {_REMEDY}") from error
    if not entries:
        raise Failure(Exit.USAGE, Word.USAGE, f"{shown}: names no file, so there is nothing to verify; {_REMEDY}")
    return entries


def _opened(path: bytes) -> contextlib.AbstractContextManager[BinaryIO]:
    if path != b"-":
        return open(path, "rb")
    if sys.stdin is None:
        raise OSError(None, "it is closed")
    return contextlib.nullcontext(sys.stdin.buffer)


def _check(root: bytes, name: bytes, digest: str) -> None:
    real = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, real]) != root:
        reason = f"lies outside {escape(root)}, and is not read; give a directory that holds it with -d"
        raise Failure(Exit.LOCAL_DISK, Word.OUTSIDE, reason)
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer.
        fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, "is not a regular file, and is not read")
            actual = checksums.sha256_of(fd)
        finally:
            os.close(fd)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Failure(Exit.INTEGRITY, Word.MISSING, "is missing") from error
    except OSError as error:
        raise Failure(Exit.LOCAL_DISK, Word.LOCAL_DISK, f"cannot be read: {reason_of(error)}") from error
    if actual != digest:
        raise Failure(Exit.INTEGRITY, Word.CHECKSUM_MISMATCH, f"its sha256 is {actual}, and in the list {digest}")


def _in_words(files: int, found: collections.Counter[Word]) -> str:
    right = files - found.total()
    if right == files:
        return f"{counted(files, 'file')}, {'all ' if files > 1 else ''}as in the list"
    parts = [f"{count(right)} of {counted(files, 'file')} as in the list"]
    differ, missing = found.pop(Word.CHECKSUM_MISMATCH, 0), found.pop(Word.MISSING, 0)
    for number, what in ((differ, "different"), (missing, "missing"), (found.total(), "not read")):
        if number:
            parts.append(f"{count(number)} {what}")
    return ", ".join(parts)
