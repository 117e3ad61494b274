"""What is answered to each verb. Runs in a child."""

from __future__ import annotations

from forkserver import __version__
from forkserver.child import listing
from forkserver.child.docroot import Refusal
from forkserver.child.enclosure import Enclosure
from forkserver.child.transfer import SMALL_BYTES, Transfer, digest_of
from forkserver.child.wire import Woken
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.protocol.messages import DIGESTS, MAX_DIGESTED_BYTES, End, Request, Status, Trailer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.clock import Pace
    from forkserver.child.docroot import Found
    from forkserver.child.session import ServerSession

_BLOCK_BYTES = 65536
_CHANGED = "the file is no longer the one with that etag"


def answer(session: ServerSession, request: Request) -> None:
    """Answer one request. Raises PeerGone, PeerTooSlow and Woken."""
    if request.verb == "PING":
        session.reply(Status.OK, {"version": __version__, "digests": ",".join(DIGESTS)})
        return
    try:
        found = session.docroot.open(request.name)
    except Refusal as refusal:
        session.reply(refusal.status, message=refusal.message)
        return
    try:
        if request.verb == "GET":
            _get(session, request, found)
        elif request.verb == "LIST":
            _list(session, request, found)
        else:
            _stat(session, request, found)
    finally:
        found.close()


def _stat(session: ServerSession, request: Request, found: Found) -> None:
    fields = found.fields()
    if request.digest is None:
        if request.if_etag not in (None, fields.get("etag")):
            session.reply(Status.CHANGED, fields, _CHANGED)
        else:
            session.reply(Status.OK, fields)
        return
    length = _part(session, request, found, fields)
    if length is None:
        return
    if length > MAX_DIGESTED_BYTES:
        session.reply(Status.BAD_RANGE, fields, "a digest covers at most 16777216 bytes")
        return
    session.end_line.part(request.offset, length, found.info.st_size)
    try:
        digest = digest_of(found, request.offset, length, request.digest)
    except OSError:
        session.reply(Status.INTERNAL_ERROR, message="the file could not be read")
        return
    if digest is None or not session.docroot.still_is(found):
        session.reply(Status.CHANGED, message="the file changed while its digest was computed")
        return
    session.midway = request.offset + length < found.info.st_size
    session.reply(Status.OK, {**fields, "digest": digest})


def _get(session: ServerSession, request: Request, found: Found) -> None:
    fields = found.fields()
    length = _part(session, request, found, fields)
    if length is not None:
        session.midway = request.offset + length < found.info.st_size
        _send_content(session, request, found, length, fields)


def _part(session: ServerSession, request: Request, found: Found, fields: dict[str, str]) -> int | None:
    """How many bytes of a file the request is about, noted in ``fields``. None: there is no such part; that is told."""
    if found.is_directory:
        session.reply(Status.NOT_A_FILE, message="is a directory")
        return None
    size = found.info.st_size
    if request.if_etag not in (None, fields["etag"]):
        session.reply(Status.CHANGED, fields, _CHANGED)
    elif request.unless_etag == fields["etag"]:
        session.reply(Status.UNCHANGED, fields)
    elif request.offset > size:
        session.reply(Status.BAD_RANGE, fields, "the offset is past the end of the file")
    else:
        length = size - request.offset
        if request.length is not None:
            length = min(length, request.length)
        fields["offset"], fields["length"] = str(request.offset), str(length)
        return length
    return None


def _send_content(session: ServerSession, request: Request, found: Found, length: int, fields: dict[str, str]) -> None:
    pace = session.pace()
    transfer = Transfer(session.wire, session.slot, pace)
    session.end_line.part(request.offset, length, found.info.st_size)
    session.end_line.promise(length, transfer)
    if session.dialect.unframed:
        # Each piece must leave on its own.
        session.reply(Status.OK, fields)
        session.end_content(_send_file(session, request, found, length, transfer), pace)
    elif length > SMALL_BYTES:
        # One burst of full segments from reply to trailer.
        session.wire.cork(on=True)
        session.reply(Status.OK, fields)
        session.end_content(_send_file(session, request, found, length, transfer), pace)
        session.wire.cork(on=False)
    else:
        head = session.encode_reply(Status.OK, fields)
        content, early = transfer.read(found, request.offset, length, request.digest)
        # It took a moment only: what the name stands for now is not asked again.
        ending = _ending(session, early) or transfer.seal(unchanged=found.is_unwritten())
        transfer.send_at_once(head[0], content, session.encode_trailer(ending))


def _send_file(session: ServerSession, request: Request, found: Found, length: int, transfer: Transfer) -> Trailer:
    early = _ending(session, transfer.send(found, request.offset, length, request.digest))
    return early or transfer.seal(unchanged=session.docroot.still_is(found))


def _ending(session: ServerSession, early: Trailer | None) -> Trailer | None:
    """After an early trailer the connection is not kept."""
    session.keep = session.keep and early is None
    return early


def _list(session: ServerSession, request: Request, found: Found) -> None:
    if not found.is_directory:
        session.reply(Status.NOT_A_DIRECTORY, message="is not a directory")
        return
    session.reply(Status.OK, found.fields())
    pace = session.pace()
    session.end_content(_send_entries(session, request, found, pace), pace)


def _send_entries(session: ServerSession, request: Request, found: Found, pace: Pace) -> Trailer:
    block = bytearray()
    count = 0
    end = End.OK
    try:
        enclosure = _enclosure(session, request)
        below = listing.entries(session.docroot, request.name, found, recursive=request.recursive, enclosure=enclosure)
        for entry in below:
            session.wire.heed(DRAINING)
            if entry is None:
                continue
            block += session.dialect.entry(entry)
            if entry.content is not None:
                block += entry.content
            count += 1
            if len(block) >= _BLOCK_BYTES:
                _send_block(session, block, pace, DRAINING)
                if enclosure:
                    enclosure.doubt()
    except OSError:
        end = End.READ_ERROR
    except Woken:
        end, session.keep = End.DRAINING, False
    _send_block(session, block, pace, STOPPING)
    return Trailer(end, {"entries": str(count)})


def _enclosure(session: ServerSession, request: Request) -> Enclosure | None:
    limit_bytes = session.settings.listing_content_bytes
    if request.content is None or not limit_bytes:
        return None
    return Enclosure(session.docroot, min(request.content, limit_bytes), request.digest)


def _send_block(session: ServerSession, block: bytearray, pace: Pace, patience: int) -> None:
    size_bytes = len(block)
    try:
        session.wire.send(block, pace, patience)
    finally:
        # The wire takes out of the block what is gone: after a break the rest of a line is still to be sent.
        session.end_line.listed_bytes += size_bytes - len(block)
        session.slot.count_sent(size_bytes - len(block))
