"""Fetch from Python: call everything that ``fsget`` does. Runs in the client.

::

    from forkserver.client import Client

    with Client("files.example.org", on_event=print) as client:
        for entry in client.list("/reports"):
            print(entry.name, entry.data.size)
        receipt = client.fetch("reports/tax.pdf", "tax.pdf")
        print(receipt.digest, [served.pid for served in receipt.served])

A name is a path beneath the directory that the server serves: ``str``, ``bytes`` or path-like, encoded as by
``os.fsencode``. Calls raise ``Failure``, whose ``exit_status``, ``word`` and ``reason`` are those of ``fsget``.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Self

from forkserver.client.fetch.counts import Counts
from forkserver.client.fetch.download import fetch_file
from forkserver.client.fetch.job import NO_WISHES, Wishes
from forkserver.client.fetch.sessions import Sessions
from forkserver.client.local import checksums
from forkserver.client.local.target import Durable, local_file
from forkserver.client.outcome import Exit, Failure, Word
from forkserver.client.remote.address import Address, Location, local_name, parse_location, parse_server
from forkserver.client.remote.listing import describe, entries

if TYPE_CHECKING:
    import builtins
    from collections.abc import Iterator, Mapping

    from forkserver.client.content import Target
    from forkserver.client.events import Event, OnEvent, Summary
    from forkserver.client.fetch.treeplan import Wanted
    from forkserver.client.fetch.treestate import TreeOptions
    from forkserver.client.outcome import Receipt, Served
    from forkserver.client.remote.listing import Listed
    from forkserver.client.remote.metadata import Metadata
    from forkserver.client.remote.session import Session

    Name = str | bytes | os.PathLike[str] | os.PathLike[bytes]

DEFAULT_TIMEOUT_S = 60.0
DEFAULT_RETRIES = 10


class Client:
    """A client of one server, or of several servers with the same files. A context manager.

    ``servers`` are ``HOST``, ``HOST:PORT`` or ``[IPV6]:PORT``. The client asks the first server. If that server fails,
    the client continues with the next server, also in the middle of a file. ``connections`` connections fetch a large
    file or a tree. ``timeout_s`` bounds connecting, and each time without a byte. ``retries`` bounds how often busy or
    lost servers are asked again since the last success. ``rate`` bounds the bytes per second that all connections
    receive. ``on_event`` is called with every ``Event``, in the thread of the event, one event at a time within each
    call.

    Only one thread at a time may use a client. Raises ValueError for a wrong server or number.
    """

    def __init__(
        self,
        *servers: str | Address,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        retries: int = DEFAULT_RETRIES,
        connections: int = 1,
        rate: int | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        if not servers:
            raise ValueError("a client needs a server")
        if not timeout_s > 0 or retries < 0 or connections < 1 or (rate is not None and rate < 1):
            raise ValueError("timeout_s, connections and rate must be above 0, and retries not below")
        self._on_event = on_event or (lambda _event: None)
        self._sessions = Sessions(
            tuple(parse_server(server) if isinstance(server, str) else server for server in servers),
            timeout_s=timeout_s,
            retries=retries,
            connections=connections,
            rate=rate,
            on_event=self._on_event,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. The next call connects again."""
        self._sessions.close()

    @property
    def servers(self) -> tuple[Address, ...]:
        """The servers, in the order in which they are asked."""
        return self._sessions.servers

    @property
    def session(self) -> Session:
        """The session for everything that needs only one session."""
        return self._sessions.first

    def serving(self) -> builtins.list[Served]:
        """Return the processes that serve this client now."""
        return self._sessions.serving()

    def stat(self, name: Name) -> Metadata:
        """Return the metadata of a file or directory. Raises Failure."""
        return describe(self.session, self._location(name).name)

    def list(self, name: Name = "/", *, recursive: bool = False) -> Iterator[Listed]:
        """Yield the entries of a directory as they come, in no order. Raises Failure.

        ``recursive``: also yield the entries of all directories beneath. The listing uses a separate connection, so the
        caller can use the client meanwhile.
        """
        return self._entries(self._location(name).name, recursive=recursive)

    def _entries(self, name: bytes, *, recursive: bool) -> Iterator[Listed]:
        with contextlib.closing(self._sessions.open(0)) as session:
            yield from entries(session, name, recursive=recursive)

    def fetch(  # noqa: PLR0913 - the options of one file
        self,
        name: Name,
        path: Name | None = None,
        *,
        checksum: str | None = None,
        by_content: bool = False,
        durable: Durable = Durable.DIR,
        whole_digest: bool = True,
    ) -> Receipt:
        """Fetch and verify a file to ``path``. The default path is the file's own name in the working directory.

        The file appears under its name when it is whole, or not at all. An older file stays until then. After a Failure
        the part of a large file is kept beside ``path``, and the next call continues from the part. ``checksum`` is the
        SHA-256 that the file must have: 64 hexadecimal digits, with or without ``sha256:`` before them. A file that has
        changed neither here nor on the server is not fetched. The call compares size, time and etag, or with
        ``by_content`` the content.

        The receipt has the ``digest`` of the whole file. A file of more than 4 MiB comes in pieces with a digest each,
        so the call reads the file once more for the digest of the whole. Without ``whole_digest`` the call does not,
        and the digest may be None. Raises Failure.
        """
        with _usage():
            expected = None if checksum is None else checksums.parse(checksum)
            location = self._location(name)
            place = local_name(location) if path is None else os.fsencode(path)
        wishes = Wishes(expected=expected, whole_digest=whole_digest, by_content=by_content)
        with local_file(place, "", durable) as target:
            return self.fetch_into(target, location.name, wishes)

    def fetch_into(self, target: Target, name: bytes, wishes: Wishes = NO_WISHES) -> Receipt:
        """Fetch a file into ``target``. ``name`` begins with a slash. Raises Failure."""
        helpers = self._sessions.helpers() if target.takes_any_order else []
        return fetch_file(self.session, name, target, self._on_event, wishes=wishes, helpers=helpers)

    def fetch_tree(  # noqa: PLR0913 - the options of a tree
        self,
        name: Name,
        directory: Name = ".",
        *,
        include: builtins.list[str] | None = None,
        exclude: builtins.list[str] | None = None,
        by_content: bool = False,
        durable: Durable = Durable.NONE,
    ) -> Summary:
        """Fetch a directory with everything beneath, or everything that a pattern matches, into ``directory``.

        Unchanged local files are not fetched; ``by_content`` is as for ``fetch``. ``include`` and ``exclude`` are
        patterns as those of ``fsget``. If a file fails, the call continues with the other files: an event tells of the
        failure, and the ``Summary`` counts the file. Raises Failure.
        """
        from forkserver.client.fetch.pattern import Filter  # noqa: PLC0415 - only trees need these modules
        from forkserver.client.fetch.treeplan import Wanted  # noqa: PLC0415
        from forkserver.client.fetch.treestate import TreeOptions  # noqa: PLC0415

        chosen = Filter(tuple(map(os.fsencode, include or ())), tuple(map(os.fsencode, exclude or ())))
        wanted = Wanted(self._location(name).name, chosen, recursive=True)
        counts = Counts()

        def count_and_tell(event: Event) -> None:
            counts(event)
            self._on_event(event)

        options = TreeOptions(durable, Wishes(by_content=by_content))
        self.fetch_wanted(wanted, os.fsencode(directory), options, count_and_tell)
        return counts.summary

    def fetch_wanted(
        self, wanted: Wanted, directory: bytes, options: TreeOptions, on_event: OnEvent | None = None
    ) -> None:
        """Fetch the ``wanted`` files into ``directory``, or tell in a dry run which would be fetched. Raises Failure.

        ``on_event`` is called instead of the client's own.
        """
        from forkserver.client.fetch.treeplan import fetch_tree  # noqa: PLC0415 - only trees need the module

        fetch_tree(self._sessions, wanted, directory, on_event or self._on_event, options)

    def fetch_named(
        self, paths: Mapping[bytes, bytes], directory: bytes, options: TreeOptions, *, knows_names: bool
    ) -> None:
        """Fetch files into ``directory``. ``paths`` maps their names on the server to their paths. Raises Failure.

        ``knows_names``: a path is the whole name on the server.
        """
        from forkserver.client.fetch.treeplan import fetch_named  # noqa: PLC0415 - as above

        fetch_named(self._sessions, paths, directory, self._on_event, options, knows_names=knows_names)

    def _location(self, name: Name) -> Location:
        # The servers are known. The slash makes sure that a name that looks like a URL is just a name.
        with _usage():
            return parse_location(b"/" + os.fsencode(name).removeprefix(b"/"), *self.servers)


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise Failure(Exit.USAGE, Word.USAGE, str(error)) from error
