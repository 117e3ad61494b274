"""Ask for the metadata of names, and for the entries of directories. Runs in the client."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from forkserver.client.content import Known, Version
from forkserver.client.outcome import Exit, Failure, Served, Word, refusal, violation
from forkserver.client.remote.answers import DIGEST, ENDINGS, answered_by, described, may_pass
from forkserver.client.remote.metadata import Metadata, read_metadata
from forkserver.client.remote.session import WINDOW
from forkserver.protocol.messages import MAX_LISTED_BYTES, End, Entry, ProtocolError, Reply, Request, Status, Trailer
from forkserver.protocol.native import decode_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from forkserver.client.remote.session import Session

_ENDINGS = {**ENDINGS, End.READ_ERROR: "the server could not read the directory to the end"}
"""By trailer: why a listing did not end well, for people."""


class Enclosed(NamedTuple):
    """The content of a small file that came with its entry. ``digest``, from the server, is not verified yet.

    ``content`` is valid until the caller takes the next entry.
    """

    content: memoryview
    digest: str
    known: Known
    served: Served


class Listed(NamedTuple):
    """An entry of a listing. ``name`` is the whole path. It is in the listed directory, and has no ``.`` and no ``..``.

    ``link`` marks a directory behind a symbolic link. ``error`` is the status word of a directory that could not be
    read. Only a listing ``with_contents`` has ``enclosed``, and not for every file.
    """

    name: bytes
    data: Metadata
    link: bool
    error: str | None
    enclosed: Enclosed | None = None


def describe(session: Session, name: bytes) -> Metadata:
    """Ask for the metadata of a file or directory, and return them. Raises Failure."""
    return described(session, session.ask(Request("STAT", _slashless(name))))


def check_is_no_directory(session: Session, name: bytes) -> None:
    """Raise Failure if ``name`` ends in a slash, which no file name does. The reason says what the server has there."""
    if name.endswith(b"/"):
        if describe(session, name).kind == "dir":
            raise refusal(Reply(Status.NOT_A_FILE, {}, "is a directory"), answered_by(session))
        reason = "is a file and no directory; leave out the slash behind its name"
        raise Failure(Exit.REFUSED, Word.NOT_A_DIRECTORY, reason, answered_by(session))


def describe_all(session: Session, names: Iterable[bytes]) -> Iterator[tuple[bytes, Metadata | Failure]]:
    """Yield each of ``names`` with its metadata, or with the Failure of this name. Many requests are on the way.

    Raises Failure if the server gives no further answers.
    """
    waiting = iter(names)
    requested: deque[bytes] = deque()
    while True:
        for name in itertools.islice(waiting, WINDOW - len(requested)):
            session.request(Request("STAT", _slashless(name)))
            requested.append(name)
        if not requested:
            return
        try:
            reply = session.reply()  # if this raises, the answer is still due
        except Failure as failure:
            if not may_pass(session, failure):
                raise
            session.wait(failure, "lost the connection")
            continue
        session.renew()
        try:
            data: Metadata | Failure = described(session, reply)
        except Failure as failure:
            data = failure
        yield requested.popleft(), data


def entries(session: Session, name: bytes, *, recursive: bool, with_contents: bool = False) -> Iterator[Listed]:
    """Yield the entries of a directory as they arrive. Raises Failure, perhaps after some entries.

    ``with_contents``: the contents of small files may come with their entries. Call ``session.renew`` before, to count
    retries from zero.
    """
    directory = _slashless(name)
    request = Request("LIST", directory, recursive=recursive)
    if with_contents:
        request.content, request.digest = MAX_LISTED_BYTES, DIGEST
    reply = session.ask_on(request)
    if with_contents and reply.status is Status.BAD_REQUEST:  # from a server without contents in listings
        reply = session.ask_on(Request("LIST", directory, recursive=recursive))
    served = answered_by(session)
    if reply.status is not Status.OK:
        raise refusal(reply, served)
    beneath = directory.removesuffix(b"/") + b"/"
    seen = 0
    while not isinstance(some := session.receive_entries(), Trailer):
        for entry in some:
            try:
                listed = _checked(entry, beneath, served)
            except ProtocolError as error:
                session.close()
                raise violation(error.message, served) from error
            yield listed
        seen += len(some)
    _check_end(some, seen, served)


def _slashless(name: bytes) -> bytes:
    # People and shells write a slash after the name of a directory. The protocol has none there.
    return name.removesuffix(b"/") or b"/"


def _checked(entry: Entry, beneath: bytes, served: Served) -> Listed:
    name = entry.name
    # No component beneath the directory may be empty, . or ..
    components = b"/" + name[len(beneath) :] + b"/"
    astray = b"//" in components or b"/./" in components or b"/../" in components or b"\0" in components
    if astray or not name.startswith(beneath):
        raise ProtocolError(Status.BAD_REQUEST, "it listed a name that is not in the directory")
    fields = entry.fields
    data = read_metadata(entry.kind, fields)
    if isinstance(entry.content, memoryview):
        if data.size != len(entry.content) or data.etag is None:
            raise ProtocolError(Status.BAD_REQUEST, "it listed a file with a content that is not the whole")
        known = Known(Version(data.size, data.etag, data.mtime_ns, served.server), int(data.mode, 8))
        return Listed(name, data, False, None, Enclosed(entry.content, fields.get("digest", ""), known, served))
    return Listed(name, data, fields.get("link") == "1", fields.get("error"))


def _check_end(trailer: Trailer, seen: int, served: Served) -> None:
    if trailer.end is not End.OK:
        reason = f"the listing is not complete: {_ENDINGS[trailer.end]}"
        raise Failure(Exit.INTEGRITY, Word(trailer.end.word), reason, served)
    try:
        promised = decode_number(trailer.fields.get("entries", ""))
    except ProtocolError as error:
        raise violation(error.message, served) from error
    if promised != seen:
        reason = f"the listing is not complete: {seen} of {promised} entries came"
        raise Failure(Exit.INTEGRITY, Word.TRUNCATED, reason, served)
