"""Select the entries of a listing that are wanted. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.fetch.pattern import with_parents
from forkserver.client.local import partial
from forkserver.client.local.target import RESERVED, local_failure
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.client.remote.answers import answered_by, may_pass
from forkserver.client.remote.listing import entries

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator

    from forkserver.client.fetch.pattern import Filter
    from forkserver.client.remote.listing import Enclosed
    from forkserver.client.remote.metadata import Metadata
    from forkserver.client.remote.session import Session


class Item(NamedTuple):
    """One file or directory of a tree: ``name`` on the server, local ``path`` relative to the target directory."""

    name: bytes
    path: bytes
    data: Metadata
    link: bool = False
    """Whether this is a directory behind a symbolic link."""
    enclosed: Enclosed | None = None
    """The content of a small file that came with the listing; valid until the next item is asked for."""
    failure: Failure | None = None
    """Why the item cannot be fetched."""

    @property
    def directory(self) -> bytes:
        """The path of the local directory that contains the item."""
        return self.path.rpartition(b"/")[0]


class Chosen(NamedTuple):
    """Selection from the directory ``name`` of the server. ``above`` is the local path that the directory goes to.

    ``pattern``, if it is not None, matches paths beneath ``name``: paths of files and, if ``recursive``, paths of
    directories, which are then wanted with everything in them. ``deep``: the pattern can match paths in subdirectories.
    """

    name: bytes
    above: bytes
    deep: bool
    pattern: re.Pattern[bytes] | None
    recursive: bool
    filter: Filter


def choose(session: Session, chosen: Chosen, *, with_contents: bool) -> Iterator[Item | None]:
    """List a directory, and yield the items that are wanted, each directory before its contents. Raises Failure.

    ``with_contents``: small files may come with the listing. Yields None if the connection was lost and the listing
    begins anew. The new listing has no contents, because most contents have come.
    """
    session.renew()
    while True:
        try:
            yield from _choose(session, chosen, with_contents=with_contents)
        except Failure as failure:
            if not may_pass(session, failure):
                raise
            session.wait(failure, "lost the connection")
        else:
            return
        with_contents = False
        yield None


def _choose(session: Session, chosen: Chosen, *, with_contents: bool) -> Iterator[Item]:
    beneath = chosen.name.removesuffix(b"/") + b"/"
    above = chosen.above + b"/" if chosen.above else b""
    recursive = chosen.deep or chosen.recursive
    for entry in entries(session, chosen.name, recursive=recursive, with_contents=with_contents):
        path = entry.name[len(beneath) :]
        if not _wanted(chosen, path, is_directory=entry.data.kind == "dir"):
            continue
        failure = None
        if entry.error:
            what = f"the server could not list it ({entry.error})"
            failure = Failure(Exit.REFUSED, Word(entry.error), what, answered_by(session))
        elif b"/" + partial.PREFIX in b"/" + path:
            failure = local_failure(path, RESERVED)
        yield Item(entry.name, above + path, entry.data, entry.link, entry.enclosed, failure)


def _wanted(chosen: Chosen, path: bytes, *, is_directory: bool) -> bool:
    if is_directory:
        return chosen.recursive and _matches(chosen, path) and chosen.filter.wants_directory(path)
    return _matches(chosen, path) and chosen.filter.wants_file(path)


def _matches(chosen: Chosen, path: bytes) -> bool:
    pattern = chosen.pattern
    if pattern is None or pattern.fullmatch(path):
        return True
    return chosen.recursive and any(map(pattern.fullmatch, with_parents(path)))
