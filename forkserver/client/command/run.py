"""One run of ``fsget``: every name asked for, or names typed one after the other. Runs at the user's."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.api import Client
from forkserver.client.command.progress import Progress, RetryNotices
from forkserver.client.command.report import Report, complain
from forkserver.client.command.statusline import StatusLine
from forkserver.client.display import count, counted, escape
from forkserver.client.fetch.job import Wishes
from forkserver.client.fetch.pattern import fixed_part, is_pattern
from forkserver.client.local.output import PassingOn, StandardOutput, Stream, is_stream
from forkserver.client.local.target import Durable, LocalFile, local_file
from forkserver.client.outcome import Exit, Failure, Interrupted
from forkserver.client.remote.address import Address, Location, local_name, parse_location, pattern_directory, tree_name
from forkserver.client.remote.answers import answered_by
from forkserver.client.remote.listing import check_is_no_directory, describe, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forkserver.client.command.manifest import Note
    from forkserver.client.command.namelist import Unusable
    from forkserver.client.command.several import Several
    from forkserver.client.command.suggest import Suggester
    from forkserver.client.content import Target
    from forkserver.client.local.names import Names
    from forkserver.client.outcome import Receipt

GREETING = "Server {}; an empty line or Ctrl-D ends.\n"
PROMPT = "Name of a file on the server: "


class Options(NamedTuple):
    """The command line, checked. ``action`` is ``fetch``, ``stat``, ``list`` or ``verify``.

    ``output`` is the path of the one file fetched, ``-`` for standard output; None: its own name,
    in ``directory``. ``timeout_s`` is in seconds. ``connections`` is how many fetch a tree, or a large file, at a
    time, all together at most ``rate`` bytes a second; ``include`` and ``exclude`` say which files of a tree. ``dry``:
    nothing is done, only told; ``delete`` what the server does not have. ``durable``: None is DIR, NONE for trees.
    ``by_content``: what is here is compared by content.
    ``expected`` is the SHA-256 of the one file fetched, in hexadecimal digits; ``manifest`` the path of the list to
    write, ``listed`` that of the list to verify, ``names_from`` that of more names, each ``-`` for a standard stream.
    ``paths``: whether names become local paths as a whole; None: those of ``names_from``.
    """

    servers: tuple[Address, ...]
    action: str
    recursive: bool
    output: bytes | None
    directory: bytes
    as_json: bool
    quiet: bool
    timeout_s: float
    retries: int
    verbose: bool = False
    connections: int = 1
    rate: int | None = None
    dry: bool = False
    delete: bool = False
    include: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    durable: Durable | None = None
    by_content: bool = False
    expected: str | None = None
    manifest: bytes | None = None
    listed: bytes | None = None
    names_from: bytes | None = None
    paths: bool | None = None

    def may_be_many(self, location: Location) -> bool:
        """Whether ``location`` may stand for more than one file."""
        if self.output is not None or self.expected is not None:
            return False
        return self.recursive or (not location.is_url and is_pattern(location.name))

    def own_name(self, location: Location) -> bytes | None:
        """The local name, of a file or a directory, that the name gives; None: it gives none. Raises ValueError."""
        if self.action != "fetch" or self.output is not None:
            return None
        if not self.may_be_many(location):
            return None if location.is_directory else local_name(location)
        name = None
        if location.is_url or not is_pattern(location.name):
            name = tree_name(location)
        else:
            pattern_directory(location, fixed_part(location.name)[0])
        if self.delete and name is None:
            raise ValueError("--delete is for a directory that is named, not for a pattern, and not for all of /")
        return name

    @property
    def file_durable(self) -> Durable:
        """What holds for a file that was named, and for a list."""
        return Durable.DIR if self.durable is None else self.durable

    def wishes(self, *, whole_digest: bool = False) -> Wishes:
        """Return what is wanted of every file; ``whole_digest``: its digest, also where no list takes that."""
        listed = self.manifest is not None
        return Wishes(self.expected, whole_digest or listed, self.by_content or listed)

    def report(self) -> Report:
        """Tells what becomes of the run, on standard error where standard output holds a content."""
        to_stderr = b"-" in (self.output, self.manifest)
        return Report(as_json=self.as_json, quiet=self.quiet, to_stderr=to_stderr)


class Run:
    """Carries the options and the sessions, one a server. ``note`` is told of every file that is here."""

    def __init__(self, options: Options, note: Note | None = None) -> None:
        self._options = options
        self._note = note
        self._report = options.report()
        self._clients: dict[tuple[Address, ...], Client] = {}
        self._names: Names | None = None
        watched = not options.quiet and sys.stderr is not None and sys.stderr.isatty()
        self._line = StatusLine(sys.stderr if watched else None)
        self._suggester: Suggester | None = None
        self._together: Several | None = None
        self._swept: set[bytes] = set()

    def names(self, locations: list[Location], more: Iterable[list[Location | Unusable]] = ()) -> Exit:
        """Do every one, whatever becomes of those before; of ``more``, those together that come together.

        Gives the exit status of the worst.
        """
        if self._options.delete or self._options.names_from is not None or len(locations) > 1:
            from forkserver.client.local.names import Names  # noqa: PLC0415 - one name needs none

            self._names = Names()
        if self._options.paths:  # one way for all that keep their paths
            more = itertools.chain([list(locations)], more)
            locations = []
        try:
            self._do(locations, more)
            if self._together is not None:
                self._together.tell()
                self._together = None
        finally:
            self._hang_up()
        return self._report.worst

    def _do(self, locations: list[Location], more: Iterable[list[Location | Unusable]]) -> None:
        try:
            for location in locations:
                self._one(location)
            for some in more:
                for servers, group in itertools.groupby(some, self._together_with):
                    self._group(servers, group)
                if self._together is not None and self._together.ended:
                    return
        except Failure as failure:  # of the list itself
            complain(str(failure))
            self._report.worst = max(self._report.worst, failure.exit_status)

    def prompt(self) -> Exit:
        """Ask a person for names until an empty line or end-of-file, each over a connection of its own."""
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
                self._report.failed(written, Failure(Exit.USAGE, "usage", str(error)), 0)
                continue
            self.names([location])

    def _together_with(self, location: Location | Unusable) -> tuple[Address, ...]:
        """The servers that it may be asked of together with others; none where it is to be asked for alone."""
        options = self._options
        if not isinstance(location, Location) or options.action != "fetch" or options.may_be_many(location):
            return ()
        if location.is_directory:  # it has no local name, and is refused by itself
            return ()
        return location.servers

    def _group(self, servers: tuple[Address, ...], group: Iterable[Location | Unusable]) -> None:
        if servers:
            self._several(servers, [each for each in group if isinstance(each, Location)])
            return
        for each in group:
            if isinstance(each, Location):
                self._one(each)
            else:
                self._report.failed(each.shown, Failure(Exit.USAGE, "usage", each.reason), 0, where=each.where)

    def _several(self, servers: tuple[Address, ...], locations: list[Location]) -> None:
        """Fetch files by their names, all together."""
        from forkserver.client.command.several import Several  # noqa: PLC0415 - most runs read no list

        client = self._client(servers)

        def progress(location: Location) -> Progress:
            return Progress(location.shown, self._line, client.serving)

        self._together = self._together or Several(self._options, self._report, self._note, self._swept)
        for location in self._together.fetch(client, locations, progress, self._names):
            self._ask_back(location)

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
                self._report.flush()
        except Failure as failure:
            self._report.failed(location.shown, failure, time.monotonic() - started)
            if failure.word == "not-found" and is_pattern(location.name):
                complain("patterns are for fetching by a plain NAME; here the name is taken as it is written")
            elif failure.word == "not-found":
                self._ask_back(location)

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
                on_event=RetryNotices(self._line),
            )
        return client

    def _fetch(self, client: Client, location: Location) -> None:
        many = self._options.dry or self._options.may_be_many(location)
        # What is there by that very name is no pattern, as in a shell.
        if many and not (self._options.recursive or self._options.dry):
            from forkserver.client.fetch.treeplan import is_there  # noqa: PLC0415 - whoever fetches one file does without

            many = not is_there(client.session, location.name)
        if many:
            self._fetch_tree(client, location)
            return
        check_is_no_directory(client.session, location.name)
        if self._options.paths or self._options.names_from is not None:
            self._several(location.servers, [location])
        else:
            self._fetch_file(client, location)

    def _fetch_tree(self, client: Client, location: Location) -> None:
        from forkserver.client.command.tally import Tally  # noqa: PLC0415 - likewise
        from forkserver.client.fetch.pattern import Filter  # noqa: PLC0415 - likewise
        from forkserver.client.fetch.treeplan import Plan, Wanted, fetch_tree  # noqa: PLC0415 - likewise

        options = self._options
        progress = Progress(location.shown, self._line, client.serving)
        tally = Tally(location, self._report, progress, self._note, verbose=options.verbose, dry=options.dry)
        wanted = Wanted(
            location.name,
            Filter(options.include, options.exclude),
            recursive=options.recursive,
            literal=location.is_url or not options.may_be_many(location),
            whole=location.whole,
        )
        try:
            fetch_tree(
                client,
                wanted,
                options.directory,
                tally,
                durable=options.durable or Durable.NONE,
                wishes=options.wishes(),
                names=self._names,
                swept=self._swept,
                plan=Plan(options.dry, options.delete),
            )
        except BaseException as error:
            tally.tell(done=False)
            if isinstance(error, Interrupted):
                error.notice = f"{escape(location.shown)}: interrupted; the same command goes on with what is missing"
            raise
        tally.tell(done=True)

    def _fetch_file(self, client: Client, location: Location) -> None:
        progress = Progress(location.shown, self._line, client.serving)
        get = functools.partial(
            client.fetch_into,
            name=location.name,
            progress=progress,
            wishes=self._options.wishes(whole_digest=self._options.as_json),
        )
        try:
            if self._options.output == b"-":
                receipt, place = _pass_on(StandardOutput(), location, get), None
            else:
                receipt, place = self._into_file(location, get)
        finally:
            progress.clear()
        self._report.fetched(location, receipt, place)

    def _into_file(self, location: Location, get: Callable[[Target], Receipt]) -> tuple[Receipt, bytes | None]:
        """Gives where it went, too, unless that is its own name in this directory."""
        output = self._options.output
        name = local_name(location) if output is None else output
        path = os.path.join(self._options.directory, name)
        if output is not None and is_stream(path):
            with Stream(path) as stream:
                return _pass_on(stream, location, get), path
        remedy = "" if output is None else f"use -d {escape(os.path.normpath(path))}"
        durable = self._options.file_durable
        with local_file(path, remedy, durable) as target, _telling_what_is_kept(location, target, path):
            receipt = get(target)
        if self._note is not None:
            self._note(name, receipt)
        return receipt, location.elsewhere(path)

    def _ask_back(self, location: Location) -> None:
        if self._options.as_json or self._options.quiet:
            return
        if self._suggester is None:
            from forkserver.client.command.suggest import Suggester  # noqa: PLC0415 - most runs find what they want

            self._suggester = Suggester()
        self._suggester.ask_back(location)

    def _hang_up(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._line.close()


@contextlib.contextmanager
def _telling_what_is_kept(location: Location, target: LocalFile, path: bytes) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        if target.kept:
            failure.reason += f"; {_kept(target)}"
        elif failure.word == "not-found":
            from forkserver.client.local.leftovers import note_about_part  # noqa: PLC0415 - most names are found

            failure.reason += note_about_part(path)
        raise
    except Interrupted as interruption:
        interruption.notice = f"{escape(location.shown)}: interrupted"
        if target.kept:
            interruption.notice += f"; {_kept(target)}"
        raise


def _pass_on(target: PassingOn, location: Location, get: Callable[[Target], Receipt]) -> Receipt:
    try:
        return get(target)
    except Interrupted as interruption:
        were = "byte of it was" if target.here == 1 else "bytes of it were"
        interruption.notice = f"{escape(location.shown)}: interrupted; {count(target.here)} {were} passed on"
        raise


def _kept(target: LocalFile) -> str:
    are = "is" if target.kept == 1 else "are"
    return f"{counted(target.kept, 'byte')} of it {are} kept, and the same command goes on from there"


def _ask_person() -> bytes:
    try:
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        return sys.stdin.buffer.readline()
    except Interrupted as interruption:
        sys.stderr.write("\n")
        interruption.notice = ""
        raise
