"""What a name stands for as a tree, and where that goes. Runs at the user's."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, Protocol

from forkserver.client.fetch.job import NO_WISHES, Wishes
from forkserver.client.fetch.pattern import Filter, compile_path, fixed_part, is_everything, is_pattern
from forkserver.client.fetch.selection import Chosen, Item, choose
from forkserver.client.fetch.sweep import Sweep
from forkserver.client.fetch.tree import Tree
from forkserver.client.local.prune import Pruning
from forkserver.client.outcome import Exit, Failure, refusal
from forkserver.client.remote.answers import answered_by
from forkserver.client.remote.listing import describe, describe_all
from forkserver.protocol.messages import Reply, Request, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from forkserver.client.fetch.watcher import Counter
    from forkserver.client.local.names import Names
    from forkserver.client.local.target import Durable
    from forkserver.client.remote.address import Address
    from forkserver.client.remote.session import Session


class Sessions(Protocol):
    """Whoever makes the sessions, as ``Client`` of ``api`` does."""

    servers: tuple[Address, ...]
    connections: int

    @property
    def session(self) -> Session:
        """The one that everything goes through which needs but one."""

    def another(self, number: int) -> Session:
        """One beside it."""


class Wanted(NamedTuple):
    """What of a server: the ``name`` of a file or a directory, or, unless it is ``literal``, a pattern.

    ``recursive``: of a directory, everything beneath; a pattern takes directories, too. ``whole``: the local path is
    the whole name, not only its last component, or what is beneath the fixed part of the pattern.
    """

    name: bytes
    filter: Filter
    recursive: bool
    literal: bool = False
    whole: bool = False

    @property
    def may_be_pattern(self) -> bool:
        """Whether the name is a pattern, unless the server has that very name."""
        return not self.literal and is_pattern(self.name)

    @property
    def top(self) -> bytes:
        """The local path of the named file or directory, relative to the target directory; empty for all of ``/``."""
        name = self.name.strip(b"/")
        return name if self.whole else name.rpartition(b"/")[2]


class Plan(NamedTuple):
    """What else to do with a tree: ``dry``: nothing but tell; ``delete`` what the server does not have."""

    dry: bool = False
    delete: bool = False


def fetch_tree(  # noqa: PLR0913 - what may be said of a tree, each once
    client: Sessions,
    wanted: Wanted,
    directory: bytes,
    watcher: Counter,
    *,
    durable: Durable,
    wishes: Wishes = NO_WISHES,
    names: Names | None = None,
    swept: set[bytes] | None = None,
    plan: Plan = Plan(),  # noqa: B008 - it cannot be changed
) -> None:
    """Fetch what is ``wanted`` into ``directory``; ``watcher`` is told. ``names`` has the paths that are taken.

    ``swept`` has the directories that this run has looked through for leftovers.
    ``wishes`` are those for every file.

    Raises Failure, after whatever could be fetched was.
    """
    tree = _tree(client, directory, watcher, durable=durable, wishes=wishes, names=names)
    if plan.dry:
        tree.plan(_items(wanted, client.session, lambda _: False))
    else:
        top = b"" if wanted.may_be_pattern else wanted.top
        # What is deleted in the end are the leftovers, too.
        sweep = None if plan.delete else Sweep(watcher, swept, knows_names=True)
        tree.fetch(_items(wanted, client.session, tree.takes_contents), top, sweep)
    if plan.delete and names is not None and not watcher.summary.failed:
        pruning = Pruning(
            wanted.filter.wants_file, wanted.filter.wants_directory, watcher.deleted, watcher.failed, dry=plan.dry
        )
        pruning.prune(directory, wanted.top, names)


def fetch_named(  # noqa: PLR0913 - likewise
    client: Sessions,
    wanted: Mapping[bytes, bytes],
    directory: bytes,
    watcher: Counter,
    *,
    durable: Durable,
    wishes: Wishes = NO_WISHES,
    names: Names | None = None,
    sweep: Sweep | None = None,
    dry: bool = False,
) -> None:
    """Fetch the files that are keys of ``wanted`` into ``directory``, to the paths that are the values.

    ``sweep``: as of ``Tree.fetch``. Otherwise as ``fetch_tree``.
    """
    tree = _tree(client, directory, watcher, durable=durable, wishes=wishes, names=names)
    items = _named(wanted, client.session, watcher)
    if dry:
        tree.plan(items)
    else:
        tree.fetch(items, b"", sweep)


def _tree(  # noqa: PLR0913 - likewise
    client: Sessions, directory: bytes, watcher: Counter, *, durable: Durable, wishes: Wishes, names: Names | None
) -> Tree:
    others = itertools.count(1)
    free = iter([client.session])  # the one that listed can fetch
    return Tree(
        directory,
        lambda: next(free, None) or client.another(next(others)),
        watcher,
        connections=client.connections,
        durable=durable,
        wishes=wishes,
        names=names,
        source=client.servers,
    )


def _named(wanted: Mapping[bytes, bytes], session: Session, watcher: Counter) -> Iterator[Item]:
    for name, data in describe_all(session, wanted):
        if isinstance(data, Failure):
            watcher.failed(name, data)
        elif data.kind == "dir":
            watcher.failed(name, refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), answered_by(session)))
        else:
            yield Item(name, wanted[name], data)


def is_there(session: Session, name: bytes) -> bool:
    """Whether the server has a file or directory of this very name. Raises Failure."""
    return session.ask(Request("STAT", name.removesuffix(b"/") or b"/")).status is Status.OK


def _items(wanted: Wanted, session: Session, takes_contents: Callable[[bytes], bool]) -> Iterator[Item | None]:
    """What ``choose`` gives. Small files come with their listing where all are wanted, and the place takes them."""
    name = wanted.name.rstrip(b"/") or b"/"
    if wanted.may_be_pattern and not is_there(session, name):
        directory, deep = fixed_part(name)
        below = name[len(directory) + 1 :]
        above = directory[1:] if wanted.whole else b""
        chosen = Chosen(directory or b"/", above, deep, compile_path(below), wanted.recursive, wanted.filter)
        with_contents = wanted.filter.takes_all and is_everything(below) and takes_contents(above)
        found = False
        for item in choose(session, chosen, with_contents=with_contents):
            found = found or item is not None
            yield item
        if not found:
            raise Failure(Exit.NOT_FOUND, "no-match", "matches nothing on the server")
        return
    data = describe(session, name)
    above = wanted.top
    if data.kind == "dir" and not wanted.recursive:
        raise refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), answered_by(session))
    if data.kind == "dir":
        if above:
            yield Item(name, above, data)
        with_contents = wanted.filter.takes_all and takes_contents(above)
        chosen = Chosen(name, above, True, None, True, wanted.filter)
        yield from choose(session, chosen, with_contents=with_contents)
    else:
        yield Item(name, above, data)
