"""The room where data flows: one connection, from its first request to its close. Runs in a child.

A dialect only decodes requests and encodes replies; everything between is here. Each request ends in one ``end`` line,
and so does a connection that never made one.
"""

from __future__ import annotations

from forkserver import __version__
from forkserver.child import clock, listing
from forkserver.child.docroot import Docroot, Found, Refusal
from forkserver.child.reader import RequestReader
from forkserver.child.receipt import Identity, Receipt
from forkserver.child.transfer import Transfer
from forkserver.child.wire import Wire, Woken
from forkserver.errors import ExitStatus, PeerGone, PeerTooSlow
from forkserver.logline import Log
from forkserver.protocol.messages import CLOSING, DIGESTS, End, ProtocolError, Reply, Request, Status, Trailer
from forkserver.settings import Settings
from forkserver.slots import DRAINING, STOPPING, Slot

_BLOCK_BYTES = 65536


class Session:
    """One connection of ``peer`` (an address for the log). ``serve`` runs it to its end and closes it."""

    def __init__(  # noqa: PLR0913 - all that a child was given, each once
        self, wire: Wire, peer: str, settings: Settings, docroot: Docroot, slot: Slot, identity: Identity, log: Log
    ) -> None:
        self._wire = wire
        self._settings = settings
        self._docroot = docroot
        self._slot = slot
        self._identity = identity
        self._receipt = Receipt(log, identity, peer)
        self._reader = RequestReader(wire, settings)
        self._keep = True

    def serve(self) -> ExitStatus:
        """Answer every request; returns how the connection ended."""
        status = ExitStatus.DONE
        try:
            while self._keep:
                self._turn()
        except PeerTooSlow:
            status = ExitStatus.PEER_TOO_SLOW
        except PeerGone:
            status = ExitStatus.PEER_GONE
        except Woken:
            status = ExitStatus.RETIRED
        self._receipt.close(status)
        self._wire.close()
        return status

    def _turn(self) -> None:
        try:
            request = self._reader.next_request()
        except ProtocolError as error:
            self._reply(error.status, {}, error.message)
        else:
            if request is None:
                self._keep = False
                return
            self._receipt.begin(request)
            self._answer(request)
            self._keep = self._keep and not self._reader.dialect.unframed
        self._slot.count_request()
        self._receipt.end()

    def _answer(self, request: Request) -> None:
        if request.verb == "PING":
            self._reply(Status.OK, {"version": __version__, "digests": ",".join(DIGESTS)})
            return
        try:
            found = self._docroot.open(request.name)
        except Refusal as refusal:
            self._reply(refusal.status, {}, refusal.message)
            return
        try:
            if request.verb == "GET":
                self._get(request, found)
            elif request.verb == "LIST":
                self._list(request, found)
            else:
                self._reply(Status.OK, found.fields())
        finally:
            found.close()

    def _get(self, request: Request, found: Found) -> None:
        if found.is_directory:
            self._reply(Status.NOT_A_FILE, {}, "is a directory")
            return
        fields = found.fields()
        size = found.info.st_size
        if request.if_etag not in (None, fields["etag"]):
            self._reply(Status.CHANGED, fields, "the file is no longer the one with that etag")
        elif request.unless_etag == fields["etag"]:
            self._reply(Status.UNCHANGED, fields)
        elif request.offset > size:
            self._reply(Status.BAD_RANGE, fields, "the offset is past the end of the file")
        else:
            length = size - request.offset
            if request.length is not None:
                length = min(length, request.length)
            self._send_content(request, found, {**fields, "offset": str(request.offset), "length": str(length)}, length)

    def _send_content(self, request: Request, found: Found, fields: dict[str, str], length: int) -> None:
        pace = self._pace()
        dialect = self._reader.dialect
        transfer = Transfer(self._wire, self._slot, pace)
        self._receipt.promise(length, transfer)
        if not dialect.unframed:
            self._wire.cork(on=True)
        self._reply(Status.OK, fields)
        trailer = transfer.send(found, request.offset, length, request.digest)
        if trailer is None:
            trailer = transfer.seal(found, self._docroot)
        else:
            self._keep = False
        self._receipt.outcome = trailer.end.value
        # Not even a stop cuts this line short: it is what tells the peer why.
        self._wire.send(dialect.trailer(trailer), pace, STOPPING)
        if not dialect.unframed:
            self._wire.cork(on=False)

    def _list(self, request: Request, found: Found) -> None:
        if not found.is_directory:
            self._reply(Status.NOT_A_DIRECTORY, {}, "is not a directory")
            return
        self._reply(Status.OK, found.fields())
        trailer = self._send_entries(request, found)
        self._receipt.outcome = trailer.end.value
        self._wire.send(self._reader.dialect.trailer(trailer), self._pace(), STOPPING)

    def _send_entries(self, request: Request, found: Found) -> Trailer:
        pace = self._pace()
        block = bytearray()
        count = 0
        end = End.OK
        try:
            for entry in listing.entries(self._docroot, request.name, found, recursive=request.recursive):
                block += self._reader.dialect.entry(entry)
                count += 1
                if len(block) >= _BLOCK_BYTES:
                    self._wire.send(block, pace, DRAINING)
                    self._slot.count_sent(len(block))
                    block.clear()
        except OSError:
            end = End.READ_ERROR
        except Woken:
            end, self._keep = End.DRAINING, False
            block.clear()
        self._wire.send(block, pace, STOPPING)
        return Trailer(end, {"entries": str(count)})

    def _reply(self, status: Status, fields: dict[str, str], message: str = "") -> None:
        self._receipt.status = status
        self._keep = self._keep and status not in CLOSING
        identity = {"pid": self._identity.pid, "start": self._identity.start}
        pieces = self._reader.dialect.reply(Reply(status, {**identity, **fields}, message))
        pace = self._pace()
        self._wire.send(pieces[0], pace, DRAINING)
        for piece in pieces[1:]:
            self._wire.let_read(pace.deadline())
            self._wire.send(piece, pace, DRAINING)

    def _pace(self) -> clock.Pace:
        return clock.Pace(self._settings.stall_s, self._settings.min_rate_bytes)
