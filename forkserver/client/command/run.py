"""Fetch, describe or list each name, or ask a person for names: one run of ``fsget``. Runs in the client."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from typing import TYPE_CHECKING

from forkserver.client.api import Client
from forkserver.client.command.onefile import fetch_one
from forkserver.client.command.progress import FileProgress, TreeProgress
from forkserver.client.command.report import Report, complain, flush
from forkserver.client.command.statusline import StatusLine
from forkserver.client.display import escape
from forkserver.client.fetch.counts import Counts
from forkserver.client.fetch.pattern import is_pattern
from forkserver.client.local.target import Durable
from forkserver.client.outcome import Exit, Failure, Interrupted, Word
from forkserver.client.remote.address import Address, Location, local_name, parse_location
from forkserver.client.remote.answers import answered_by
from forkserver.client.remote.listing import check_is_no_directory, describe, entries

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.command.namelist import Unusable
    from forkserver.client.command.options import Options
    from forkserver.client.command.suggest import Suggester
    from forkserver.client.events import Event, OnEvent
    from forkserver.client.fetch.treestate import TreeOptions
    from forkserver.client.local.names import Names

GREETING = "Server {}; an empty line or Ctrl-D ends.\n"
PROMPT = "Name of a file on the server: "


class Run:
    """One run. The events of all clients go to ``_consumers``, which change from name to name.

    ``note`` is a further consumer, which lists the files that were fetched.
    """

    def __init__(self, options: Options, report: Report, note: OnEvent | None = None) -> None:
        self._options = options
        self._report = report
        self._clients: dict[tuple[Address, ...], Client] = {}
        """The clients by their servers."""
        self._names: Names | None = None
        watched = not options.quiet and sys.stderr is not None and sys.stderr.isatty()
        self._line = StatusLine(sys.stderr if watched else None)
        self._always: list[OnEvent] = [self._line, note] if note else [self._line]
        self._consumers = self._always
        self._suggester: Suggester | None = None
        self._named_counts: Counts | None = None
        """Counts of all files that were asked for by name and fetched together."""
        self._swept: set[bytes] = set()
        """The directories from which this run has removed leftovers."""
        self._disk_full = False

    def names(self, locations: list[Location], more: Iterable[list[Location | Unusable]] = ()) -> Exit:
        """Fetch, describe or list every name, also after a failure. Return the exit status of the worst failure.

        The names of each list in ``more`` are fetched together.
        """
        if self._options.delete or self._options.names_from or len(locations) > 1:
            from forkserver.client.local.names import Names  # noqa: PLC0415 - a single name cannot collide

            self._names = Names()
        if self._options.paths:  # all names that keep their paths are fetched in the same way
            more = itertools.chain([list(locations)], more)
            locations = []
        try:
            self._do(locations, more)
            if self._named_counts is not None:
                from forkserver.client.command import namedreport  # noqa: PLC0415 - loaded already

                namedreport.finish(self._report, self._named_counts, dry=self._options.dry)
                self._named_counts = None
        finally:
            for client in self._clients.values():
                client.close()
            self._clients.clear()
            self._line.close()
        return self._report.worst

    def prompt(self) -> Exit:
        """Ask a person for names until an empty line or end-of-file. Each name has a connection of its own."""
        sys.stderr.write(GREETING.format(self._options.servers[0]))
        while True:
            line = _ask_person()
            written = line.rstrip(b"\r\n")
            if not written:
                sys.stderr.write("" if line else "\n")
                return self._report.worst
            try:
                location = parse_location(written, *self._options.servers)._replace(whole=bool(self._options.paths))
                self._options.own_name(location)
            except ValueError as error:
                self._report.failed(written, Failure(Exit.USAGE, Word.USAGE, str(error)), 0)
                continue
            self.names([location])

    def _do(self, locations: list[Location], more: Iterable[list[Location | Unusable]]) -> None:
        try:
            for location in locations:
                self._one(location)
            for some in more:
                for servers, group in itertools.groupby(some, self._together_with):
                    self._group(servers, group)
                if self._disk_full:
                    return
        except Failure as failure:  # of the list itself
            complain(str(failure))
            self._report.worst = max(self._report.worst, failure.exit_status)

    def _together_with(self, location: Location | Unusable) -> tuple[Address, ...]:
        """Return the servers that may be asked for ``location`` together with other names, or none."""
        options = self._options
        if not isinstance(location, Location) or options.action != "fetch" or options.may_be_many(location):
            return ()
        # The name of a directory gives no local name, and is refused by itself.
        return () if location.is_directory else location.servers

    def _group(self, servers: tuple[Address, ...], group: Iterable[Location | Unusable]) -> None:
        if servers:
            self._fetch_named(servers, [each for each in group if isinstance(each, Location)])
            return
        for each in group:
            if isinstance(each, Location):
                self._one(each)
            else:
                self._report.failed(each.shown, Failure(Exit.USAGE, Word.USAGE, each.reason), 0, where=each.where)

    def _one(self, location: Location) -> None:
        started = time.monotonic()
        client = self._client(location.servers)
        try:
            if self._options.action == "fetch":
                self._fetch(client, location)
            elif self._options.action == "stat":
                data = describe(client.session, location.name)
                self._report.described(location, data, answered_by(client.session))
            else:
                client.session.renew()
                for entry in entries(client.session, location.name, recursive=self._options.recursive):
                    self._report.entry(location, entry, answered_by(client.session))
                flush()
        except Failure as failure:
            self._report.failed(location.shown, failure, time.monotonic() - started)
            if failure.word == Word.NOT_FOUND and is_pattern(location.name):
                complain("patterns are for fetching by a plain NAME; here the name is taken as it is written")
            elif failure.word == Word.NOT_FOUND:
                self._suggest_names(location)

    def _fetch(self, client: Client, location: Location) -> None:
        many = self._options.dry or self._options.may_be_many(location)
        # As in a shell, the name of a file that exists is no pattern.
        if many and not (self._options.recursive or self._options.dry):
            from forkserver.client.fetch.treeplan import is_there  # noqa: PLC0415 - only patterns need the module

            many = not is_there(client.session, location.name)
        if many:
            self._fetch_tree(client, location)
            return
        check_is_no_directory(client.session, location.name)
        if self._options.paths or self._options.names_from:
            self._fetch_named(location.servers, [location])
        else:
            self._fetch_file(client, location)

    def _fetch_file(self, client: Client, location: Location) -> None:
        progress = FileProgress(self._line, client.serving, lambda _: location.shown)
        with self._listening(progress):
            try:
                receipt, place = fetch_one(client, location, self._options, self._on_event)
            finally:
                progress.finish()
        self._report.fetched(location, receipt, place)

    def _fetch_named(self, servers: tuple[Address, ...], locations: list[Location]) -> None:
        """Fetch ``locations``, all on ``servers``, together."""
        from forkserver.client.command.namedreport import NamedReport  # noqa: PLC0415 - most runs have one name

        options = self._options
        client = self._client(servers)
        self._named_counts = self._named_counts or Counts()
        named = {location.name: location for location in locations}
        progress = FileProgress(self._line, client.serving, lambda name: named[name].shown)
        report = NamedReport(self._report, options.directory, locations)
        with self._listening(progress, self._named_counts, report):
            try:
                client.fetch_named(
                    {name: local_name(location) for name, location in named.items()},
                    options.directory,
                    self._tree_options(options.file_durable, whole_digest=options.as_json),
                    knows_names=options.paths is not False,
                )
            except Failure as failure:
                for event in report.rest(failure):
                    self._on_event(event)
                self._disk_full = failure.exit_status is Exit.LOCAL_DISK
            except Interrupted as interruption:
                progress.finish()
                interruption.notice = "interrupted; the same command goes on with what is missing"
                raise
        for location in report.missing:
            self._suggest_names(location)

    def _fetch_tree(self, client: Client, location: Location) -> None:
        from forkserver.client.command.treereport import TreeReport  # noqa: PLC0415 - only trees need these modules
        from forkserver.client.fetch.pattern import Filter  # noqa: PLC0415
        from forkserver.client.fetch.treeplan import Wanted  # noqa: PLC0415

        options = self._options
        progress, counts = TreeProgress(self._line, client.serving, location), Counts()
        report = TreeReport(self._report, location, counts, verbose=options.verbose, dry=options.dry)
        wanted = Wanted(
            location.name,
            Filter(options.include, options.exclude),
            recursive=options.recursive,
            literal=location.is_url or not options.may_be_many(location),
            whole=location.whole,
        )
        done = False
        try:
            with self._listening(progress, counts, report):
                client.fetch_wanted(wanted, options.directory, self._tree_options(options.durable or Durable.NONE))
            done = True
        except Interrupted as interruption:
            shown = escape(location.shown)
            interruption.notice = f"{shown}: interrupted; the same command goes on with what is missing"
            raise
        finally:
            progress.finish()
            report.finish(done=done)

    def _tree_options(self, durable: Durable, *, whole_digest: bool = False) -> TreeOptions:
        from forkserver.client.fetch.treestate import TreeOptions  # noqa: PLC0415 - a single file does without

        options = self._options
        wishes = options.wishes(whole_digest=whole_digest)
        return TreeOptions(durable, wishes, options.dry, options.delete, self._names, self._swept)

    def _client(self, servers: tuple[Address, ...]) -> Client:
        client = self._clients.get(servers)
        if client is None:
            options = self._options
            client = self._clients[servers] = Client(
                *servers,
                timeout_s=options.timeout_s,
                retries=options.retries,
                connections=options.connections,
                rate=options.rate,
                on_event=self._on_event,
            )
        return client

    def _on_event(self, event: Event) -> None:
        for consumer in self._consumers:
            consumer(event)

    @contextlib.contextmanager
    def _listening(self, *consumers: OnEvent) -> Iterator[None]:
        """Return a context in which all events go to ``consumers``, too."""
        self._consumers = [*self._always, *consumers]
        try:
            yield
        finally:
            self._consumers = self._always

    def _suggest_names(self, location: Location) -> None:
        if self._options.as_json or self._options.quiet:
            return
        if self._suggester is None:
            from forkserver.client.command.suggest import Suggester  # noqa: PLC0415 - most runs find what they want

            self._suggester = Suggester()
        self._suggester.suggest(location)


def _ask_person() -> bytes:
    try:
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        return sys.stdin.buffer.readline()
    except Interrupted as interruption:
        sys.stderr.write("\n")
        interruption.notice = ""
        raise
