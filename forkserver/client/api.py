"""Fetching from Python: what ``fsget`` does, as calls. Runs at the user's.

::

    from forkserver.client import Client

    with Client("files.example.org", on_event=print) as client:
        for entry in client.list("/reports"):
            print(entry.name, entry.data.size)
        receipt = client.fetch("reports/tax.pdf", "tax.pdf")
        print(receipt.digest, [served.pid for served in receipt.served])

A name is a path beneath the directory that is served, ``str``, ``bytes`` or path-like; what is no text in it is as
``os.fsencode`` has it. Whatever cannot be done raises ``Failure``, whose ``exit_status``, ``word`` and ``reason`` are
those of ``fsget``.
"""

from __future__ import annotations

import contextlib
import os
import weakref
from typing import TYPE_CHECKING, Self

from forkserver.client.events import Event, Progress, Summary
from forkserver.client.fetch.download import fetch_file
from forkserver.client.fetch.job import NO_WISHES, Wishes
from forkserver.client.local import checksums
from forkserver.client.local.target import Durable, local_file
from forkserver.client.outcome import Exit, Failure, Receipt
from forkserver.client.remote.address import Address, local_name, parse_location, parse_server
from forkserver.client.remote.listing import describe, entries
from forkserver.client.remote.ratelimit import RateLimit
from forkserver.client.remote.session import Session

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterator

    from forkserver.client.content import Target
    from forkserver.client.outcome import Served
    from forkserver.client.remote.listing import Listed
    from forkserver.client.remote.metadata import Metadata

    Name = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_RETRIES = 10


class Client:
    """Asks a server, or several that serve the same files. A context manager.

    ``servers`` are ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``; of several the first is asked, and, where it is not to
    be had, the next, in the middle of a file, too. ``connections`` of them fetch one large file, or a tree, at a time.
    ``timeout_s`` bounds connecting, and every time without a byte; ``retries`` is how often, one time after the other,
    servers that are busy or lost are asked again. ``rate`` bounds the bytes received in a second, by all connections
    together. ``on_event`` is called with every ``Event``, by whichever thread it happens in, one at a time for each
    call.

    No two threads may use one client at a time. Raises ValueError for a server that is none, and for numbers that make
    no sense.
    """

    def __init__(
        self,
        *servers: str | Address,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        connections: int = 1,
        rate: int | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if not servers:
            raise ValueError("a client needs a server")
        if not timeout_s > 0 or retries < 0 or connections < 1 or (rate is not None and rate < 1):
            raise ValueError("timeout_s, connections and rate must be above 0, and retries not below")
        self.servers = tuple(parse_server(server) if isinstance(server, str) else server for server in servers)
        self.connections = connections
        self._timeout_s = timeout_s
        self._retries = retries
        self._throttle = None if rate is None else RateLimit(rate)
        self._on_event = on_event
        self._session: Session | None = None
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. The next call connects anew."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @property
    def session(self) -> Session:
        """The session that everything goes through which needs but one."""
        if self._session is None:
            self._session = self.another(0)
        return self._session

    def another(self, number: int) -> Session:
        """A session beside it; those with other numbers begin with other servers."""
        first = number % len(self.servers)
        servers = self.servers[first:] + self.servers[:first]
        session = Session(
            *servers,
            timeout_s=self._timeout_s,
            retries=self._retries,
            on_event=self._on_event,
            throttle=self._throttle,
        )
        self._sessions.add(session)
        return session

    def serving(self) -> builtins.list[Served]:
        """Who is at work for this client just now."""
        return sorted(session.served for session in list(self._sessions) if session.connected and session.served)

    def stat(self, name: Name) -> Metadata:
        """What the server says of a file or a directory. Raises Failure."""
        return describe(self.session, self._sendable(name))

    def list(self, name: Name = "/", *, recursive: bool = False) -> Iterator[Listed]:
        """The entries of a directory, in no order, as they come; ``recursive``: of all beneath it, too. Raises Failure.

        They have a connection of their own, so other things can be asked of this client meanwhile.
        """
        return self._entries(self._sendable(name), recursive=recursive)

    def _entries(self, name: bytes, *, recursive: bool) -> Iterator[Listed]:
        session = self.another(0)
        try:
            yield from entries(session, name, recursive=recursive)
        finally:
            session.close()

    def fetch(  # noqa: PLR0913 - what may be said of one file, each once
        self,
        name: Name,
        path: Name | None = None,
        *,
        checksum: str | None = None,
        by_content: bool = False,
        durable: Durable = Durable.DIR,
        whole_digest: bool = True,
    ) -> Receipt:
        """Fetch a file, verified, to ``path``, by default to its own name in the working directory. Raises Failure.

        The file appears under its name when it is whole, or not at all; what was there before stays until then. What
        came of a long file before a Failure is kept beside it, and the next call goes on from there. ``checksum`` is
        what its SHA-256 must be, 64 hexadecimal digits, ``sha256:`` before them or not. A file that is here already is
        not fetched if it has not changed, neither here nor on the server; ``by_content``: its content says so, not its
        size, time and etag.

        The receipt has the ``digest`` of the whole file. For a file of more than 4 MiB, which comes in pieces with a
        digest each, the digest of the whole costs reading the file once more; without ``whole_digest`` it is None.
        """
        if checksum is not None:
            with _usage():
                checksum = checksums.parse(checksum)
        sendable = self._sendable(name)
        place = self._own_name(name) if path is None else os.fsencode(path)
        with local_file(place, "", durable) as target:
            wishes = Wishes(expected=checksum, whole_digest=whole_digest, by_content=by_content)
            return self.fetch_into(target, sendable, wishes=wishes)

    def fetch_into(
        self,
        target: Target,
        name: bytes,
        progress: Callable[[int, int], None] | None = None,
        *,
        wishes: Wishes = NO_WISHES,
    ) -> Receipt:
        """As ``fetch``, of a ``name`` that begins with a slash, to wherever the ``target`` puts it. Raises Failure."""
        helpers = [self.another(number) for number in range(1, self.connections)] if target.takes_any_order else []
        return fetch_file(
            self.session,
            name,
            target,
            progress or self._progress(name),
            wishes=wishes,
            helpers=helpers,
        )

    def fetch_tree(  # noqa: PLR0913 - what may be said of a tree, each once
        self,
        name: Name,
        directory: Name = ".",
        *,
        include: builtins.list[str] | None = None,
        exclude: builtins.list[str] | None = None,
        by_content: bool = False,
        durable: Durable = Durable.NONE,
    ) -> Summary:
        """Fetch a directory with everything beneath it, or what a pattern takes, into ``directory``. Raises Failure.

        What is here and unchanged is not fetched; ``by_content`` is as for ``fetch``. A file that fails does not end
        it: ``on_event`` is told, and the ``Summary`` counts it. ``include`` and ``exclude`` are patterns as those of
        ``fsget``.
        """
        from forkserver.client.fetch.pattern import Filter  # noqa: PLC0415 - likewise
        from forkserver.client.fetch.treeplan import Wanted, fetch_tree  # noqa: PLC0415 - whoever fetches one file does without
        from forkserver.client.fetch.watcher import Counter  # noqa: PLC0415 - likewise

        chosen = Filter(tuple(map(os.fsencode, include or ())), tuple(map(os.fsencode, exclude or ())))
        counter = Counter(self._on_event)
        wanted = Wanted(self._sendable(name), chosen, recursive=True)
        wishes = Wishes(by_content=by_content)
        fetch_tree(self, wanted, os.fsencode(directory), counter, durable=durable, wishes=wishes)
        return counter.summary

    def _progress(self, name: bytes) -> Callable[[int, int], None]:
        on_event = self._on_event
        if on_event is None:
            return lambda _here, _size: None
        return lambda here, size: on_event(Progress(name, here, size))

    def _sendable(self, name: Name) -> bytes:
        with _usage():
            written = os.fsencode(name)
            # No URL: the servers are known, and a name may look like one.
            return parse_location(written if written.startswith(b"/") else b"/" + written, *self.servers).name

    def _own_name(self, name: Name) -> bytes:
        with _usage():
            return local_name(parse_location(b"/" + os.fsencode(name).removeprefix(b"/"), *self.servers))


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Failure(Exit.USAGE, "usage", str(error)) from error
