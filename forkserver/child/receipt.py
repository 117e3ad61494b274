"""What a child writes down of each request: the ``end`` line. Runs in a child."""

from __future__ import annotations

from forkserver.child import clock
from forkserver.errors import ExitStatus
from forkserver.logline import Log
from forkserver.protocol.messages import Request, Status
from forkserver.protocol.native import encode_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from forkserver.child.transfer import Transfer

_BROKEN = {
    ExitStatus.PEER_GONE: "peer-gone",
    ExitStatus.PEER_TOO_SLOW: "peer-too-slow",
    ExitStatus.RETIRED: "draining",
}


class Identity:
    """Who serves: PID and start time (``start_ns``: nanoseconds since 1970), as they stand in every reply and every line."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start_ns: int) -> None:
        self.pid = str(pid)
        self.start = f"{start_ns // 1_000_000_000}.{start_ns % 1_000_000_000 // 1000:06d}"


class Receipt:
    """The requests of one connection, one after the other, a line each; one line too for a connection that made none."""

    def __init__(self, log: Log, identity: Identity, peer: str) -> None:
        self._log = log
        self._identity = identity
        self._peer = peer
        self._lines = 0
        self._reset()

    def begin(self, request: Request) -> None:
        """A request is complete; its time runs."""
        self._request = request
        self._began = clock.now()

    def promise(self, length_bytes: int, transfer: Transfer) -> None:
        """A content of so many bytes begins; ``transfer`` knows how far it is."""
        self._promised_bytes = length_bytes
        self._transfer = transfer

    def end(self) -> None:
        """The request is answered: write its line."""
        request = self._request
        sent_bytes = self._transfer.sent_bytes if self._transfer else 0
        self._log.event(
            "end",
            pid=self._identity.pid,
            start=self._identity.start,
            peer=self._peer,
            request=request.verb if request else "-",
            path=encode_name(request.name) if request else "-",
            status=self.status or "-",
            outcome=self.outcome,
            sent=f"{sent_bytes}/{self._promised_bytes}",
            ms=f"{(clock.now() - self._began) * 1000:.1f}",
        )
        self._lines += 1
        self._reset()

    def close(self, status: ExitStatus) -> None:
        """The connection ended with ``status``: write the line of a request that was broken off, or of a silent peer."""
        if self._request or not self._lines:
            self.outcome = _BROKEN.get(status, "no-request")
            self.end()

    def _reset(self) -> None:
        self._request: Request | None = None
        self._transfer: Transfer | None = None
        self._promised_bytes = 0
        self._began = clock.now()
        self.status: Status | None = None
        self.outcome = "ok"
