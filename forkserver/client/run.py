"""One run of ``fsget``: every name asked for, or names typed one after the other. Runs at the user's."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.address import Address, Location, local_name, parse_location
from forkserver.client.connection import Session
from forkserver.client.display import count, escape
from forkserver.client.fetch import answered_by, fetch
from forkserver.client.listing import describe, entries
from forkserver.client.outcome import Exit, Failure, Interrupted
from forkserver.client.output import StandardOutput
from forkserver.client.pattern import is_pattern
from forkserver.client.progress import Progress, Waiting
from forkserver.client.report import Report, complain
from forkserver.client.target import Durable, LocalFile, local_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from forkserver.client.fetch import Receipt
    from forkserver.client.manifest import Note
    from forkserver.client.suggest import Suggester
    from forkserver.client.target import Target

GREETING = "Server {}; an empty line or Ctrl-D ends.\n"
PROMPT = "Name of a file on the server: "


class Options(NamedTuple):
    """The command line, checked. ``action`` is ``fetch``, ``stat``, ``list`` or ``verify``.

    ``output`` is the path of the one file fetched, ``-`` for standard output; None: its own name,
    in ``directory``. ``timeout_s`` is in seconds. ``connections`` is how many fetch a tree at a
    time, ``include`` and ``exclude`` say which of its files. ``durable``: None is DIR, and NONE for trees. ``expected``
    is the SHA-256 of the one file fetched, in hexadecimal digits; ``manifest`` the path of the list to write,
    ``listed`` that of the list to verify, each ``-`` for a standard stream.
    """

    server: Address
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
    include: tuple[bytes, ...] = ()
    exclude: tuple[bytes, ...] = ()
    durable: Durable | None = None
    expected: str | None = None
    manifest: bytes | None = None
    listed: bytes | None = None

    def may_be_many(self, location: Location) -> bool:
        """Whether ``location`` may stand for more than one file."""
        if self.output is not None or self.expected is not None:
            return False
        return self.recursive or (not location.is_url and is_pattern(location.name))

    @property
    def file_durable(self) -> Durable:
        """What holds for a file that was named, and for a list."""
        return Durable.DIR if self.durable is None else self.durable

    def report(self) -> Report:
        """Tells what becomes of the run, on standard error where standard output holds a content."""
        to_stderr = b"-" in (self.output, self.manifest)
        return Report(as_json=self.as_json, quiet=self.quiet, to_stderr=to_stderr)


class Run:
    """Carries the options and the conversations, one a server. ``note`` is told of every file that is here."""

    def __init__(self, options: Options, note: Note | None = None) -> None:
        self._options = options
        self._note = note
        self._report = options.report()
        self._sessions: dict[Address, Session] = {}
        watched = not options.quiet and sys.stderr is not None and sys.stderr.isatty()
        self._terminal = sys.stderr if watched else None
        self._suggester: Suggester | None = None

    def names(self, locations: Iterable[Location]) -> Exit:
        """Do every one in order, whatever becomes of those before. Gives the exit status of the worst."""
        try:
            for location in locations:
                self._one(location)
        finally:
            self._hang_up()
        return self._report.worst

    def prompt(self) -> Exit:
        """Ask a person for names until an empty line or end-of-file, each over a connection of its own."""
        sys.stderr.write(GREETING.format(self._options.server))
        while True:
            line = _ask_person()
            written = line.rstrip(b"\r\n")
            if not written:
                sys.stderr.write("" if line else "\n")
                return self._report.worst
            try:
                location = parse_location(written, self._options.server)
                if self._options.action == "fetch":
                    local_name(location)
            except ValueError as error:
                self._report.failed(written, Failure(Exit.USAGE, "usage", str(error)), 0)
                continue
            self.names([location])

    def _one(self, location: Location) -> None:
        started = time.monotonic()
        session = self._sessions.get(location.server)
        if session is None:
            session = self._sessions[location.server] = self._session(location)
        try:
            if self._options.action == "fetch":
                self._fetch(session, location)
            elif self._options.action == "stat":
                data = describe(session, location.name)
                self._report.described(location, data, answered_by(session))
            else:
                for entry in entries(session, location.name, recursive=self._options.recursive):
                    self._report.entry(entry, answered_by(session))
                self._report.flush()
        except Failure as failure:
            self._report.failed(location.shown, failure, time.monotonic() - started)
            if failure.word == "not-found" and not (self._options.as_json or self._options.quiet):
                self._ask_back(location)

    def _session(self, location: Location) -> Session:
        options = self._options
        waiting = Waiting(self._terminal)
        return Session(location.server, timeout_s=options.timeout_s, retries=options.retries, waiting=waiting)

    def _fetch(self, session: Session, location: Location) -> None:
        if not self._options.may_be_many(location):
            self._fetch_file(session, location)
            return
        from forkserver.client.grove import fetch_tree, is_there  # noqa: PLC0415 - whoever fetches one file does without

        # What is there by that very name is no pattern, as in a shell.
        if not self._options.recursive and is_there(session, location.name):
            self._fetch_file(session, location)
            return
        sessions = itertools.chain([session], iter(lambda: self._session(location), None))
        progress = Progress(location.shown, self._terminal)
        fetch_tree(self._options, location, sessions, self._report, progress, note=self._note)

    def _fetch_file(self, session: Session, location: Location) -> None:
        progress = Progress(location.shown, self._terminal)
        get = functools.partial(
            fetch,
            session,
            location.name,
            progress=progress,
            expected=self._options.expected,
            whole_digest=self._options.as_json or self._note is not None,
        )
        try:
            if self._options.output == b"-":
                receipt, place = get(StandardOutput()), None
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
        remedy = "" if output is None else f"use -d {escape(os.path.normpath(path))}"
        durable = self._options.file_durable
        with local_file(path, remedy, durable) as target, _telling_what_is_kept(location, target):
            receipt = get(target)
        if self._note is not None:
            self._note(name, receipt)
        place = os.path.normpath(path)
        return receipt, None if place == location.name.rpartition(b"/")[2] else place

    def _ask_back(self, location: Location) -> None:
        if self._suggester is None:
            from forkserver.client.suggest import Suggester  # noqa: PLC0415 - most runs find what they want

            self._suggester = Suggester()
        self._suggester.ask_back(location)

    def _hang_up(self) -> None:
        for session in self._sessions.values():
            session.close()
        self._sessions.clear()


@contextlib.contextmanager
def _telling_what_is_kept(location: Location, target: LocalFile) -> Iterator[None]:
    try:
        yield
    except Failure as failure:
        if target.kept:
            failure.reason += f"; {_kept(target)}"
        raise
    except Interrupted:
        if target.kept:
            complain(f"{escape(location.shown)}: interrupted; {_kept(target)}")
        raise


def _kept(target: LocalFile) -> str:
    return f"{count(target.kept)} bytes of it are kept, and the same command goes on from there"


def _ask_person() -> bytes:
    try:
        sys.stderr.write(PROMPT)
        sys.stderr.flush()
        return sys.stdin.buffer.readline()
    except Interrupted:
        sys.stderr.write("\n")
        raise
