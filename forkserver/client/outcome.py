"""How a fetch can end: exit statuses, and the one exception that carries a failure to the user. Runs at the user's."""

from __future__ import annotations

import enum
from typing import NamedTuple

from forkserver.protocol.messages import Reply, Status


class Exit(enum.IntEnum):
    """The exit statuses of ``fsget``. Of several failures in one run the highest number is the run's."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    INTEGRITY = 6
    LOCAL_DISK = 7
    INTERRUPTED = 130
    """128 and SIGINT, as a shell shows it. The process dies of the signal and exits so only where it cannot."""
    BROKEN_PIPE = 141
    """128 and SIGPIPE: who read our standard output has gone."""


MEANINGS = {
    Exit.OK: "everything asked for was done",
    Exit.BUG: "a bug in fsget",
    Exit.USAGE: "the command line, or the file of --config or --verify, is wrong",
    Exit.NOT_FOUND: "does not exist on the server",
    Exit.REFUSED: "the server refused, or stayed busy after all retries",
    Exit.UNREACHABLE: "no connection, connection lost, timeout, or no forkserver",
    Exit.INTEGRITY: "a content is incomplete, changed or damaged, or not the one expected",
    Exit.LOCAL_DISK: "a local file could not be written or read, or standard output not be written",
    Exit.INTERRUPTED: "interrupted (143: terminated, 129: hung up)",
    Exit.BROKEN_PIPE: "the reader of standard output has gone",
}
"""For people: ``fsget --help`` and the manual page."""


class Served(NamedTuple):
    """The process that answered, on ``server``; ``start`` is when it started, seconds since 1970, as on the wire."""

    pid: int
    start: str
    server: str = ""


class Receipt(NamedTuple):
    """The result of fetching one file, which is complete and verified.

    ``served`` lists in order the processes that sent a part of the file in this run, or said that the file is
    unchanged. ``received`` bytes came in this run, ``kept`` bytes were here before. ``digest`` is ``sha256:`` and
    hexadecimal digits; None: the pieces were verified, and nobody asked for the digest of the whole. ``unchanged``: the
    whole file was here before. ``began_anew``: a part of another version was here, and was discarded.
    """

    served: tuple[Served, ...]
    size: int
    received: int
    digest: str | None
    seconds: float
    unchanged: bool = False
    began_anew: bool = False
    kept: int = 0


class Reach(enum.IntEnum):
    """How many files a local failure concerns."""

    FILE = 0
    DIRECTORY = 1
    """No other file can be written into the same directory."""
    RUN = 2
    """No other file can be written at all: the disk is full."""


class Word(enum.StrEnum):
    """The word that names a failure for programs: one of docs/protocol.md, or one of the client's own."""

    BAD_REQUEST = "bad-request"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    NOT_A_DIRECTORY = "not-a-directory"
    TOO_SLOW = "too-slow"
    NOT_A_FILE = "not-a-file"
    CHANGED = "changed"
    TOO_LONG = "too-long"
    BAD_RANGE = "bad-range"
    TOO_MANY_CONNECTIONS = "too-many-connections"
    INTERNAL_ERROR = "internal-error"
    BUSY = "busy"
    TRUNCATED = "truncated"
    READ_ERROR = "read-error"
    DRAINING = "draining"
    # The client's own.
    CHECKSUM_MISMATCH = "checksum-mismatch"
    CONNECTION_LOST = "connection-lost"
    DIGEST_MISMATCH = "digest-mismatch"
    LOCAL_DISK = "local-disk"
    MISSING = "missing"
    NO_ANSWER = "no-answer"
    NO_MATCH = "no-match"
    NOT_A_FORKSERVER = "not-a-forkserver"
    OUTSIDE = "outside"
    PROTOCOL_ERROR = "protocol-error"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    USAGE = "usage"

    @classmethod
    def _missing_(cls, value: object) -> Word:
        """Return the word as it came: a server that is newer than the client may have further words."""
        word = str.__new__(cls, value)
        word._name_ = word._value_ = str(value)
        return word


class Failure(Exception):
    """One name could not be fetched, described or listed.

    ``exit_status`` is the kind of failure; ``word`` names it for programs: a word of docs/protocol.md,
    or one of the client's own; ``reason`` is a clause for people; ``served`` is who answered, if anybody did.
    """

    def __init__(self, exit_status: Exit, word: Word, reason: str, served: Served | None = None) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.word = word
        self.reason = reason
        self.served = served
        self.reach = Reach.FILE
        self.directory: bytes | None = None
        """With ``Reach.DIRECTORY``: which directory of the target; None: that of the file."""

    def __str__(self) -> str:
        """The reason, and the process that is part of it."""
        if self.served is None:
            return self.reason
        did = "asked" if self.exit_status in (Exit.NOT_FOUND, Exit.REFUSED) else "served by"
        return f"{self.reason} ({did} PID {self.served.pid})"


class Interrupted(BaseException):
    """A signal asks the run to end. Not an Exception, so that nothing in the middle takes the signal for a failure."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.notice = "interrupted"
        """The line that the user reads at the end. Whatever was interrupted replaces it by a more exact one."""


_SENTENCES = {
    Status.NOT_FOUND: "does not exist on the server",
    Status.BUSY: "the server is busy; try again later, or for longer with a higher --retries",
    Status.TOO_MANY_CONNECTIONS: "the server has too many connections from here; end some, or try again later",
}


def refusal(reply: Reply, served: Served | None) -> Failure:
    """The failure that a reply other than ``200`` stands for."""
    kind = Exit.NOT_FOUND if reply.status is Status.NOT_FOUND else Exit.REFUSED
    reason = _SENTENCES.get(reply.status) or reply.message or f"the server answered {reply.status} {reply.status.word}"
    if reply.status is Status.NOT_A_FILE and "directory" in reply.message:
        reason += "; -r fetches it, --list shows what is in it"
    return Failure(kind, Word(reply.status.word), reason, served)


def violation(complaint: str, served: Served) -> Failure:
    """Return the failure of a server that broke the protocol after it had shown that it speaks the protocol."""
    return Failure(Exit.INTEGRITY, Word.PROTOCOL_ERROR, f"the server broke the protocol: {complaint}", served)
