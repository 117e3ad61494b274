"""What an argument of the command line stands for, and where that goes, as a tree. Runs at the user's."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from forkserver.client.display import escape
from forkserver.client.listing import describe
from forkserver.client.outcome import Exit, Failure, Interrupted
from forkserver.client.pattern import Filter, compile_path, fixed_part, is_pattern
from forkserver.client.report import complain
from forkserver.client.tally import Tally
from forkserver.client.target import Durable
from forkserver.client.tree import Chosen, Item, Tree, choose
from forkserver.protocol.messages import Request, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from forkserver.client.address import Location
    from forkserver.client.connection import Session
    from forkserver.client.manifest import Note
    from forkserver.client.progress import Progress
    from forkserver.client.report import Report
    from forkserver.client.run import Options


def fetch_tree(  # noqa: PLR0913 - what may be said of a tree, each once
    options: Options,
    location: Location,
    sessions: Iterator[Session],
    report: Report,
    progress: Progress,
    *,
    note: Note | None,
) -> None:
    """Fetch what ``location`` stands for into ``options.directory``. ``sessions`` are for as many as are needed.

    ``note`` is told of every file that is here. Raises Failure, after whatever could be fetched was.
    """
    tally = Tally(location, report, progress, note, verbose=options.verbose)
    session = next(sessions)
    connect = functools.partial(next, itertools.chain([session], sessions))  # the one that listed is free again
    tree = Tree(
        options.directory,
        connect,
        tally,
        connections=options.connections,
        durable=options.durable or Durable.NONE,
        whole_digest=note is not None,
    )
    try:
        tree.fetch(_items(options, location, session, tally))
    except BaseException as error:
        tally.tell(done=False)
        if isinstance(error, Interrupted):
            complain(f"{escape(location.shown)}: interrupted; the same command goes on with what is missing")
        raise
    tally.tell(done=True)


def is_there(session: Session, name: bytes) -> bool:
    """Whether the server has a file or directory of this very name. Raises Failure."""
    return session.ask(Request("STAT", name.removesuffix(b"/") or b"/")).status is Status.OK


def _items(options: Options, location: Location, session: Session, tally: Tally) -> Iterator[Item]:
    chosen = Filter(options.include, options.exclude)
    name = location.name.removesuffix(b"/") or b"/"
    if not location.is_url and is_pattern(name) and not is_there(session, name):
        directory, deep = fixed_part(name)
        pattern = compile_path(name[len(directory) + 1 :])
        wanted = Chosen(directory or b"/", b"", deep, pattern, options.recursive, chosen)
        found = False
        for item in choose(session, wanted, tally):
            found = True
            yield item
        if not found:
            raise Failure(Exit.NOT_FOUND, "no-match", "matches nothing on the server")
        return
    data = describe(session, name)
    above = name.rpartition(b"/")[2]
    if data.kind == "dir":
        if above:
            yield Item(name, above, data)
        yield from choose(session, Chosen(name, above, True, None, True, chosen), tally)
    else:
        yield Item(name, above, data)
