"""Fetch one named file to its place: a local file, standard output, or a FIFO or device. Runs in the client."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from forkserver.client.display import count, counted, escape
from forkserver.client.events import Fetched
from forkserver.client.local.output import PassingOn, is_stream, open_stream, write_output
from forkserver.client.local.target import LocalFile, local_file
from forkserver.client.outcome import Failure, Interrupted, Word
from forkserver.client.remote.address import local_name

if TYPE_CHECKING:
    from forkserver.client.api import Client
    from forkserver.client.command.options import Options
    from forkserver.client.events import OnEvent
    from forkserver.client.fetch.job import Wishes
    from forkserver.client.outcome import Receipt
    from forkserver.client.remote.address import Location


def fetch_one(client: Client, location: Location, options: Options, on_event: OnEvent) -> tuple[Receipt, bytes | None]:
    """Fetch the file at ``location``. Return its receipt, and the path that it went to or None. Raises Failure.

    The path is None for standard output, and for a file under its own name in the working directory. ``on_event`` is
    called for a local file, but not for a content that was passed on.
    """
    wishes = options.wishes(whole_digest=options.as_json)
    output = options.output
    if output == b"-":
        return _pass_on(PassingOn(write_output), client, location, wishes), None
    name = local_name(location) if output is None else output
    path = os.path.join(options.directory, name)
    if output is not None and is_stream(path):
        with open_stream(path) as stream:
            return _pass_on(stream, client, location, wishes), path
    remedy = "" if output is None else f"use -d {escape(os.path.normpath(path))}"
    with local_file(path, remedy, options.file_durable) as target:
        receipt = _to_place(target, path, client, location, wishes)
    on_event(Fetched(location.name, name, receipt))
    return receipt, location.elsewhere(path)


def _to_place(target: LocalFile, path: bytes, client: Client, location: Location, wishes: Wishes) -> Receipt:
    try:
        return client.fetch_into(target, location.name, wishes)
    except Failure as failure:
        if failure.word == Word.NOT_FOUND and not target.kept:
            from forkserver.client.local.leftovers import note_about_part  # noqa: PLC0415 - most names are found

            failure.reason += note_about_part(path)
        failure.reason += _note_about_kept(target)
        raise
    except Interrupted as interruption:
        interruption.notice = f"{escape(location.shown)}: interrupted{_note_about_kept(target)}"
        raise


def _pass_on(target: PassingOn, client: Client, location: Location, wishes: Wishes) -> Receipt:
    try:
        return client.fetch_into(target, location.name, wishes)
    except Interrupted as interruption:
        were = "byte of it was" if target.here == 1 else "bytes of it were"
        interruption.notice = f"{escape(location.shown)}: interrupted; {count(target.here)} {were} passed on"
        raise


def _note_about_kept(target: LocalFile) -> str:
    """Return a clause that tells how much the next run will find; empty if that is nothing."""
    if not target.kept:
        return ""
    are = "is" if target.kept == 1 else "are"
    return f"; {counted(target.kept, 'byte')} of it {are} kept, and the same command goes on from there"
