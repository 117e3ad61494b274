"""The bare dialect, for the client of the lab exercise, which has no framing. Runs in a child; no input or output.

See "The bare dialect" in docs/protocol.md.
"""

from __future__ import annotations

from forkserver.protocol.messages import Entry, ProtocolError, Reply, Request, Status, Trailer

EXISTS = b"file-exists"
MISSING = b"file-doesn't-exist"
MAX_NAME_BYTES = 1024
_NATIVE_VERBS = (b"GET ", b"STAT ", b"LIST ", b"PING")


def is_bare(first: bytes) -> bool:
    """Return whether the first bytes of a connection are a bare name, and not a native request."""
    return not first.startswith(_NATIVE_VERBS)


class BareDialect:
    """One bare name in; PID, ``file-exists`` or not, and content out. Same methods as ``framing.RequestStream``."""

    unframed = True
    started = False

    def __init__(self) -> None:
        self._name = b""

    def feed(self, data: bytes) -> None:
        """Add what the peer sent: the whole name, in one piece."""
        self._name += data

    @property
    def has_request(self) -> bool:
        """Whether ``next_request`` will return a request."""
        return bool(self._name)

    def next_request(self) -> Request | None:
        """Return the only request, then None. Raises ProtocolError if the name is too long."""
        if len(self._name) > MAX_NAME_BYTES:
            raise ProtocolError(Status.TOO_LONG, "a bare name is longer than 1024 bytes")
        if not self._name:
            return None
        name, self._name = self._name, b""
        return Request("GET", name if name.startswith(b"/") else b"/" + name)

    def end_of_file(self) -> None:
        """Note that the peer will send no more. A bare name is always complete."""

    def reply(self, reply: Reply) -> list[bytes]:
        """Return PID, existence, and an empty piece before the content. The peer must read each one separately."""
        pid = reply.fields["pid"].encode("ascii")
        return [pid, EXISTS, b""] if reply.status is Status.OK else [pid, MISSING]

    def trailer(self, trailer: Trailer) -> bytes:  # noqa: ARG002 - this dialect has no trailer
        """Return nothing: end-of-file ends the content."""
        return b""

    def entry(self, entry: Entry) -> bytes:
        """Never called: this dialect has no listings."""
        raise AssertionError(entry)
