"""Plan and run the fetch of a directory tree, of a pattern, or of named files. Runs in the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.events import Deleted
from forkserver.client.fetch.pattern import Filter, compile_path, fixed_part, is_everything, is_pattern
from forkserver.client.fetch.selection import Chosen, Item, choose
from forkserver.client.fetch.sweep import Sweep
from forkserver.client.fetch.tree import Tree
from forkserver.client.fetch.treestate import TreeState
from forkserver.client.local.prune import Pruning
from forkserver.client.outcome import Exit, Failure, Word, refusal
from forkserver.client.remote.answers import answered_by
from forkserver.client.remote.listing import describe, describe_all
from forkserver.protocol.messages import Reply, Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from forkserver.client.events import OnEvent
    from forkserver.client.fetch.sessions import Sessions
    from forkserver.client.fetch.treestate import TreeOptions
    from forkserver.client.remote.session import Session


class Wanted(NamedTuple):
    """Request for a tree. ``name`` is the name of a file or directory, or, unless ``literal``, a pattern.

    ``recursive``: fetch directories with everything beneath; a pattern matches directories, too. ``whole``: the local
    path is the whole name. Otherwise the local path is the last component, or the part that the pattern matches.
    """

    name: bytes
    filter: Filter
    recursive: bool
    literal: bool = False
    whole: bool = False

    @property
    def may_be_pattern(self) -> bool:
        """Whether the name is a pattern, unless the server has a file or directory of this very name."""
        return not self.literal and is_pattern(self.name)

    @property
    def top(self) -> bytes:
        """The local path of the named file or directory, relative to the target directory; empty for all of ``/``."""
        name = self.name.strip(b"/")
        return name if self.whole else name.rpartition(b"/")[2]


def fetch_tree(sessions: Sessions, wanted: Wanted, directory: bytes, on_event: OnEvent, options: TreeOptions) -> None:
    """Fetch the files that are ``wanted`` into ``directory``. An event tells of each file that failed.

    Raises Failure if a listing failed, or if nothing more can be fetched.
    """
    state = TreeState(directory, on_event, options)
    top = b"" if wanted.may_be_pattern else wanted.top
    # Deletion removes leftovers, too.
    sweep = None if options.delete else Sweep(sessions.first, on_event, options.swept, knows_names=True)
    Tree(state, sessions, options.names).fetch(_items(wanted, sessions, state), top, sweep)
    if options.delete and options.names is not None and not state.has_failed:
        pruning = Pruning(
            wanted.filter.wants_file,
            wanted.filter.wants_directory,
            lambda path: on_event(Deleted(path)),
            state.fail_name,
            dry=options.dry,
        )
        pruning.prune(directory, wanted.top, options.names)


def fetch_named(  # noqa: PLR0913 - as fetch_tree, with the names of the files
    sessions: Sessions,
    paths: Mapping[bytes, bytes],
    directory: bytes,
    on_event: OnEvent,
    options: TreeOptions,
    *,
    knows_names: bool,
) -> None:
    """Fetch the files that are keys of ``paths`` into ``directory``, to the values. Raises Failure as ``fetch_tree``.

    ``knows_names``: a path is the whole name on the server.
    """
    state = TreeState(directory, on_event, options)
    sweep = Sweep(sessions.first, on_event, options.swept, knows_names=knows_names)
    Tree(state, sessions, options.names).fetch(_named(paths, sessions.first, state), b"", sweep)


def _named(paths: Mapping[bytes, bytes], session: Session, state: TreeState) -> Iterator[Item]:
    for name, data in describe_all(session, paths):
        if isinstance(data, Failure):
            state.fail_name(name, data)
        elif data.kind == "dir":
            state.fail_name(name, refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), answered_by(session)))
        else:
            yield Item(name, paths[name], data)


def is_there(session: Session, name: bytes) -> bool:
    """Return whether the server has a file or directory of this very name. Raises Failure."""
    return session.ask(Request("STAT", name.removesuffix(b"/") or b"/")).status is Status.OK


def _items(wanted: Wanted, sessions: Sessions, state: TreeState) -> Iterator[Item | None]:
    """Yield the items that are ``wanted``, and None where a listing begins anew. Raises Failure.

    Small files come with the listing if all files are wanted and the top local directory is new.
    """
    session = sessions.first
    name = wanted.name.rstrip(b"/") or b"/"
    # Contents come with the listing over one connection only: several connections are to share the work.
    takes_contents = sessions.connections == 1 and not state.dry and wanted.filter.takes_all
    if wanted.may_be_pattern and not is_there(session, name):
        directory, deep = fixed_part(name)
        below = name[len(directory) + 1 :]
        above = directory[1:] if wanted.whole else b""
        chosen = Chosen(directory or b"/", above, deep, compile_path(below), wanted.recursive, wanted.filter)
        with_contents = takes_contents and is_everything(below) and state.is_new(above)
        found = False
        for item in choose(session, chosen, with_contents=with_contents):
            found = found or item is not None
            yield item
        if not found:
            raise Failure(Exit.NOT_FOUND, Word.NO_MATCH, "matches nothing on the server")
        return
    data = describe(session, name)
    above = wanted.top
    if data.kind == "dir" and not wanted.recursive:
        raise refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), answered_by(session))
    if above or data.kind != "dir":
        yield Item(name, above, data)
    if data.kind == "dir":
        with_contents = takes_contents and state.is_new(above)
        chosen = Chosen(name, above, True, None, True, wanted.filter)
        yield from choose(session, chosen, with_contents=with_contents)
