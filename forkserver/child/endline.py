"""Write the ``end`` lines of a connection, one for each transfer. Runs in a child."""

from __future__ import annotations

from forkserver.child import clock
from forkserver.errors import ExitStatus
from forkserver.logline import Log
from forkserver.protocol.messages import End, Identity, Request, Status
from forkserver.protocol.native import encode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.transfer import Transfer
    from forkserver.ipc.slots import Slot

_BROKEN = {
    ExitStatus.PEER_GONE: "peer-gone",
    ExitStatus.PEER_TOO_SLOW: "peer-too-slow",
    ExitStatus.RETIRED: "draining",
}
_PARTIAL = "partial"


class EndLine:
    """The end lines of one connection: one line for each transfer, or one line for a connection without a request.

    Most requests are a transfer each. Consecutive requests for adjacent parts of one file are one transfer and share
    one line, also where only their digests are asked for. The line is written once it is certain that no further part
    follows, so its ``outcome`` tells what became of the file and not of the last part.

    A line is also kept back while the peer has still to take its answer (``untaken``), so the line of the last answer
    is not ``ok`` if the peer never takes that answer.

    The slot of the child holds what has no line yet. If the child is killed, the process that reaps the child logs it.
    """

    __slots__ = (
        "_began",
        "_goes_on_at",
        "_identity",
        "_lines",
        "_log",
        "_offset",
        "_part_bytes",
        "_peer",
        "_promised_bytes",
        "_request",
        "_sent_bytes",
        "_size",
        "_slot",
        "_status",
        "_transfer",
        "outcome",
        "untaken",
    )

    def __init__(self, log: Log, identity: Identity, peer: str, slot: Slot) -> None:
        self._log = log
        self._slot = slot
        self._identity = identity
        self._peer = peer
        self._lines = 0
        self._reset()

    def _reset(self) -> None:
        self._request: Request | None = None
        self._transfer: Transfer | None = None
        self._goes_on_at: int | None = None
        self.untaken = False
        self._promised_bytes = self._sent_bytes = self._part_bytes = 0
        self._offset: int | str = "-"
        self._size: int | str = "-"
        self._began = clock.now()
        self._status: int | str = "-"
        self.outcome = "-"

    def begin(self, request: Request) -> None:
        """Continue the line of the transfer that ``request`` continues; else write the kept line, and begin one."""
        before = self._request
        if before and (request.verb, request.name, request.offset) == (before.verb, before.name, self._goes_on_at):
            self._request = request
            self._goes_on_at = None
            return
        self.settle()
        self._request = request
        self._began = clock.now()
        self._slot.begin_request(request.verb, request.name if request.verb != "PING" else b"")

    def replied(self, status: Status) -> None:
        """Note the status of the reply."""
        self._status = int(status)
        self.outcome = status.word

    def promise(self, length_bytes: int, transfer: Transfer) -> None:
        """Note that a content of ``length_bytes`` is to be sent. ``transfer`` knows how much was sent."""
        self._promised_bytes += length_bytes
        self._transfer = transfer

    def listed(self, size_bytes: int) -> None:
        """Note that ``size_bytes`` more of a listing were sent. A listing promises only what is sent."""
        self._promised_bytes += size_bytes
        self._sent_bytes += size_bytes

    def part(self, offset: int, length_bytes: int, size_bytes: int) -> None:
        """Note that the request is about ``length_bytes`` from ``offset`` of a file of ``size_bytes``."""
        if self._offset == "-":
            self._offset = offset
        self._size = size_bytes
        self._part_bytes = length_bytes

    def end(self, *, midway: bool = False, untaken: bool = False) -> None:
        """Write the line of the answered request, or keep it back.

        ``midway``: if the answer went well, the next request may ask for more of the file; the line waits for that
        request. ``untaken``: the peer has still to take the answer; call ``settle`` when the peer has taken it.
        """
        if self._transfer:
            self._sent_bytes += self._transfer.sent_bytes
            self._transfer = None
        if midway and self._request and self.outcome == End.OK.word:
            self._goes_on_at = self._request.offset + self._part_bytes
        elif untaken:
            self.untaken = True
        else:
            self._write()

    def settle(self) -> None:
        """Write the line that was kept back, if there is one. No further part of its file follows."""
        if self._goes_on_at is not None:
            # A STAT asked for the digest of this part only. After a GET the rest of the file is missing.
            if self._request and self._request.verb == "GET":
                self.outcome = _PARTIAL
            self._write()
        elif self.untaken:
            self._write()

    def close(self, status: ExitStatus) -> None:
        """Write the line that is still due after the end with ``status``; note in the slot that the connection is over.

        The line is for a request that was broken off, for a file that was fetched in part, for an answer that the peer
        did not take, or for a connection without a request.
        """
        if status not in _BROKEN:
            self.settle()
        if self._request or self.untaken or not self._lines:
            self.outcome = _BROKEN.get(status, "no-request")
            self.end()
        self._slot.leave()

    def _write(self) -> None:
        request = self._request
        self._log.event(
            "end",
            pid=self._identity.pid,
            start=self._identity.fields["start"],
            peer=self._peer,
            request=request.verb if request else "-",
            path=encode_name(request.name) if request and request.verb != "PING" else "-",
            status=self._status,
            outcome=self.outcome,
            sent=self._sent_bytes,
            promised=self._promised_bytes,
            offset=self._offset,
            size=self._size,
            ms=f"{(clock.now() - self._began) * 1000:.1f}",
        )
        # Clear the slot after the line is written: if the child is killed before, another process must log the request.
        self._slot.end_request()
        self._lines += 1
        self._reset()
