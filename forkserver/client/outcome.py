"""How a fetch can end: receipt, exit statuses, and the exception for a failure. Runs in the client."""

from __future__ import annotations

import enum
from typing import NamedTuple

from forkserver.protocol.messages import Reply, Status


class Exit(enum.IntEnum):
    """The exit statuses of ``fsget``. A run with several failures ends with the highest number."""

    OK = 0
    BUG = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNREACHABLE = 5
    INTEGRITY = 6
    LOCAL_DISK = 7
    INTERRUPTED = 130
    """128 + SIGINT, as shells show this signal. The process dies of the signal, and exits so only if it cannot."""
    BROKEN_PIPE = 141
    """128 + SIGPIPE: the reader of standard output has gone."""


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
"""Meanings of the exit statuses, for ``fsget --help`` and the manual page."""


class Served(NamedTuple):
    """The process that answered, on ``server``. ``start`` is its start time in seconds since 1970, as on the wire."""

    pid: int
    start: str
    server: str = ""


class Receipt(NamedTuple):
    """The result of fetching one file, which is complete and verified.

    ``served`` lists in order the processes that sent a part of the file in this run, or said that the file is
    unchanged. ``received`` bytes came in this run, ``kept`` bytes were here before. ``digest`` is ``sha256:`` and
    hexadecimal digits; None: the pieces were verified, and the caller did not want the digest of the whole.
    ``unchanged``: the whole file was here before. ``began_anew``: a part of another version was here and is discarded.
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
    """The word that names a failure for programs: a word of docs/protocol.md, or a word of the client."""

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
    # Words of the client.
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
        """Return an unknown word as it came: a server may be newer than the client, and have further words."""
        word = str.__new__(cls, value)
        word._name_ = word._value_ = str(value)
        return word


class Failure(Exception):
    """One name could not be fetched, described or listed.

    ``exit_status`` is the kind of failure. ``word`` names the failure for programs. ``reason`` is a clause for people.
    ``served`` is the process that answered, if there was an answer.
    """

    def __init__(self, exit_status: Exit, word: Word, reason: str, served: Served | None = None) -> None:
        super().__init__(reason)
        self.exit_status = exit_status
        self.word = word
        self.reason = reason
        self.served = served
        self.reach = Reach.FILE
        self.directory: bytes | None = None
        """With ``Reach.DIRECTORY``: which directory of the target; None: the directory of the file."""

    def __str__(self) -> str:
        """Return the reason, with the process that answered."""
        if self.served is None:
            return self.reason
        did = "asked" if self.exit_status in (Exit.NOT_FOUND, Exit.REFUSED) else "served by"
        return f"{self.reason} ({did} PID {self.served.pid})"


class Interrupted(BaseException):
    """A signal asks the run to end. Not an Exception, so that no handler of failures catches the signal."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.signal_number = signal_number
        self.notice = "interrupted"
        """The line that the user reads at the end. The interrupted step replaces the line by a more exact line."""


_SENTENCES = {
    Status.NOT_FOUND: "does not exist on the server",
    Status.BUSY: "the server is busy; try again later, or for longer with a higher --retries",
    Status.TOO_MANY_CONNECTIONS: "the server has too many connections from here; end some, or try again later",
}


def refusal(reply: Reply, served: Served | None) -> Failure:
    """Return the failure that a reply other than ``200`` stands for."""
    kind = Exit.NOT_FOUND if reply.status is Status.NOT_FOUND else Exit.REFUSED
    reason = _SENTENCES.get(reply.status) or reply.message or f"the server answered {reply.status} {reply.status.word}"
    if reply.status is Status.NOT_A_FILE and "directory" in reply.message:
        reason += "; -r fetches it, --list shows what is in it"
    return Failure(kind, Word(reply.status.word), reason, served)


def violation(complaint: str, served: Served) -> Failure:
    """Return the failure of a server that broke the protocol after it had shown that it speaks the protocol."""
    return Failure(Exit.INTEGRITY, Word.PROTOCOL_ERROR, f"the server broke the protocol: {complaint}", served)
