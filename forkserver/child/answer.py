"""Answer each verb: find the file, send the reply, the content and the trailer. Runs in a child."""

from __future__ import annotations

from forkserver import __version__
from forkserver.child import listing
from forkserver.child.docroot import Refusal
from forkserver.child.inline import InlineContents
from forkserver.child.peersocket import PhaseChanged
from forkserver.child.transfer import SMALL_BYTES, Transfer, digest_of
from forkserver.ipc.slots import DRAINING, STOPPING
from forkserver.protocol.messages import DIGESTS, MAX_DIGESTED_BYTES, End, Request, Status, Trailer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.clock import Pace
    from forkserver.child.docroot import Docroot, Found
    from forkserver.child.replies import ReplySender
    from forkserver.ipc.slots import Slot
    from forkserver.settings import Settings

_BLOCK_BYTES = 65536
_CHANGED = "the file is no longer the one with that etag"


class Answered:
    """Result of an answer.

    ``status`` is the status of the reply. ``midway``: the answer was about a part of a file, and more of the file
    follows that part. ``cut``: the content was broken off, so the peer cannot find the next reply in the stream.
    """

    __slots__ = ("cut", "midway", "status")

    def __init__(self, status: Status, *, midway: bool = False, cut: bool = False) -> None:
        self.status = status
        self.midway = midway
        self.cut = cut


class Answerer:
    """Answers the requests of one connection."""

    __slots__ = ("_docroot", "_sender", "_settings", "_slot")

    def __init__(self, sender: ReplySender, docroot: Docroot, slot: Slot, settings: Settings) -> None:
        self._sender = sender
        self._docroot = docroot
        self._slot = slot
        self._settings = settings

    def answer(self, request: Request) -> Answered:
        """Answer one request. Raises PeerGone, PeerTooSlow and PhaseChanged."""
        if request.verb == "PING":
            return self._reply(Status.OK, {"version": __version__, "digests": ",".join(DIGESTS)})
        try:
            found = self._docroot.open(request.name)
        except Refusal as refusal:
            return self._reply(refusal.status, message=refusal.message)
        try:
            fields = found.fields()
            if request.verb == "LIST":
                return self._list(request, found, fields)
            if request.verb == "STAT" and request.digest is None:
                return self._stat(request, fields)
            send = self._send_content if request.verb == "GET" else self._send_digest
            return self._refuse_part(request, found, fields) or send(request, found, fields)
        finally:
            found.close()

    def _reply(self, status: Status, fields: dict[str, str] | None = None, message: str = "") -> Answered:
        self._sender.reply(status, fields, message)
        return Answered(status)

    def _stat(self, request: Request, fields: dict[str, str]) -> Answered:
        if request.if_etag not in (None, fields.get("etag")):
            return self._reply(Status.CHANGED, fields, _CHANGED)
        return self._reply(Status.OK, fields)

    def _list(self, request: Request, found: Found, fields: dict[str, str]) -> Answered:
        if not found.is_directory:
            return self._reply(Status.NOT_A_DIRECTORY, message="is not a directory")
        self._sender.reply(Status.OK, fields)
        pace = self._sender.pace()
        trailer = self._send_entries(request, found, pace)
        self._sender.end_content(trailer, pace)
        return Answered(Status.OK, cut=trailer.end is End.DRAINING)

    def _refuse_part(self, request: Request, found: Found, fields: dict[str, str]) -> Answered | None:
        """Refuse a request for a part of a file that does not exist, or that the peer does not want.

        Return None where the request stands.
        """
        if found.is_directory:
            return self._reply(Status.NOT_A_FILE, message="is a directory")
        size = found.info.st_size
        if request.if_etag not in (None, fields["etag"]):
            return self._reply(Status.CHANGED, fields, _CHANGED)
        if request.unless_etag == fields["etag"]:
            return self._reply(Status.UNCHANGED, fields)
        if request.offset > size:
            return self._reply(Status.BAD_RANGE, fields, "the offset is past the end of the file")
        return None

    def _send_digest(self, request: Request, found: Found, fields: dict[str, str]) -> Answered:
        offset, size = request.offset, found.info.st_size
        length = _note_part(request, size, fields)
        if length > MAX_DIGESTED_BYTES:
            return self._reply(Status.BAD_RANGE, fields, "a digest covers at most 16777216 bytes")
        self._sender.end_line.part(offset, length, size)
        try:
            digest = digest_of(found, offset, length, request.digest or "")
        except OSError:
            return self._reply(Status.INTERNAL_ERROR, message="the file could not be read")
        if digest is None or not self._docroot.still_is(found):
            return self._reply(Status.CHANGED, message="the file changed while its digest was computed")
        self._sender.reply(Status.OK, {**fields, "digest": digest})
        return Answered(Status.OK, midway=offset + length < size)

    def _send_content(self, request: Request, found: Found, fields: dict[str, str]) -> Answered:
        offset, size = request.offset, found.info.st_size
        length = _note_part(request, size, fields)
        sender = self._sender
        pace = sender.pace()
        transfer = Transfer(sender.peer_socket, self._slot, pace, request.digest)
        sender.end_line.part(offset, length, size)
        sender.end_line.promise(length, transfer)
        if length <= SMALL_BYTES and not sender.dialect.unframed:
            head = sender.encode_reply(Status.OK, fields)
            content, early = transfer.read(found, offset, length)
            # Reading took only a moment. To ask again where the name leads would cost more.
            trailer = early or transfer.seal(unchanged=found.is_unwritten())
            transfer.send_at_once(head[0], content, sender.encode_trailer(trailer))
        else:
            # One burst of full segments from reply to trailer. A dialect without framing needs a segment for each.
            corked = not sender.dialect.unframed
            if corked:
                sender.peer_socket.cork(on=True)
            sender.reply(Status.OK, fields)
            early = transfer.send(found, offset, length)
            sender.end_content(early or transfer.seal(unchanged=self._docroot.still_is(found)), pace)
            if corked:
                sender.peer_socket.cork(on=False)
        return Answered(Status.OK, midway=offset + length < size, cut=early is not None)

    def _send_entries(self, request: Request, found: Found, pace: Pace) -> Trailer:
        """Send what is beneath a directory in blocks of entries. Return the trailer of the listing."""
        block = bytearray()
        count = 0
        end = End.OK
        try:
            inline = self._inline_contents(request)
            below = listing.entries(self._docroot, request.name, found, recursive=request.recursive, inline=inline)
            for entry in below:
                self._sender.peer_socket.check_phase(DRAINING)
                if entry is None:
                    continue
                block += self._sender.dialect.entry(entry)
                if entry.content is not None:
                    block += entry.content
                count += 1
                if len(block) >= _BLOCK_BYTES:
                    self._send_block(block, pace, DRAINING)
                    if inline:
                        inline.distrust_directory()
        except OSError:
            end = End.READ_ERROR
        except PhaseChanged:
            end = End.DRAINING
        self._send_block(block, pace, STOPPING)
        return Trailer(end, {"entries": str(count)})

    def _inline_contents(self, request: Request) -> InlineContents | None:
        limit_bytes = self._settings.listing_content_bytes
        if request.content is None or not limit_bytes:
            return None
        return InlineContents(self._docroot, min(request.content, limit_bytes), request.digest)

    def _send_block(self, block: bytearray, pace: Pace, tolerated: int) -> None:
        """Send ``block``, and count what was sent of it, also where the sending was broken off."""
        size_bytes = len(block)
        try:
            self._sender.peer_socket.send(block, pace, tolerated)
        finally:
            # ``send`` removes from the block what it has sent: after a break the rest of a line is still to be sent.
            sent_bytes = size_bytes - len(block)
            self._sender.end_line.listed(sent_bytes)
            self._slot.count_sent(sent_bytes)


def _note_part(request: Request, size: int, fields: dict[str, str]) -> int:
    """Note in ``fields`` which part of a file of ``size`` bytes the answer is about. Return the length of the part."""
    length = size - request.offset
    if request.length is not None:
        length = min(length, request.length)
    fields["offset"], fields["length"] = str(request.offset), str(length)
    return length
