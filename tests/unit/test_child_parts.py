"""Reader, answers, replies and end lines of a child, without a socket: the peer is a script of what it sends."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

from forkserver.child.answer import Answered, Answerer
from forkserver.child.clock import Pace
from forkserver.child.docroot import Docroot
from forkserver.child.endline import EndLine
from forkserver.child.peersocket import PeerSocket, PhaseChanged
from forkserver.child.reader import RequestReader
from forkserver.child.replies import ReplySender
from forkserver.errors import ExitStatus, PeerTooSlow
from forkserver.ipc.slots import DRAINING, SERVING, SlotTable
from forkserver.logline import Log
from forkserver.protocol.messages import Identity, ProtocolError, Request, Status
from forkserver.settings import Settings

CONTENT = b"0123456789" * 5000


class Peer:
    """A peer that sends ``data``, then end-of-file, and takes everything. ``phase`` is what the master has set."""

    def __init__(self, *data: bytes) -> None:
        self.data = list(data)
        self.taken = b""
        self.phase = SERVING
        self.hold = False
        self.corks: list[bool] = []
        self.tolerated: list[int] = []

    def check_phase(self, tolerated: int) -> None:
        if self.phase > tolerated:
            raise PhaseChanged

    def receive(self, _deadline: float, tolerated: int, _size_bytes: int) -> bytes:
        self.tolerated.append(tolerated)
        if not self.data:
            return b""
        if self.data[0] == b"silence":
            raise PeerTooSlow
        return self.data.pop(0)

    def send(self, data: bytearray, _pace: Pace, _tolerated: int) -> None:
        self.taken += data
        data.clear()

    def send_part(self, data: memoryview, _pace: Pace, _tolerated: int) -> int:
        self.taken += data
        return len(data)

    def send_file(self, file_fd: int, offset: int, size_bytes: int, _pace: Pace, _tolerated: int) -> int:
        data = os.pread(file_fd, size_bytes, offset)
        self.taken += data
        return len(data)

    def cork(self, *, on: bool) -> None:
        self.corks.append(on)

    def let_read(self, _deadline: float) -> None:
        self.taken += b"|"


class Child:
    """The parts of one connection. ``lines`` are its end lines."""

    def __init__(self, root: Path, peer: Peer, settings: Settings) -> None:
        self._root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
        self._log_fd = os.memfd_create("log")
        self.peer = peer
        self.slot = SlotTable(1).slot(0)
        socket = cast("PeerSocket", peer)
        identity = Identity(42, 0)
        self.end_line = EndLine(Log(self._log_fd), identity, "192.0.2.1:1", self.slot)
        self.reader = RequestReader(socket, settings)
        self.sender = ReplySender(socket, self.reader, self.end_line, identity, settings)
        self._answerer = Answerer(self.sender, Docroot(self._root_fd, hidden=False), self.slot, settings)

    def answer(self, request: Request) -> Answered:
        self.end_line.begin(request)
        answered = self._answerer.answer(request)
        self.end_line.end(midway=answered.midway)
        return answered

    @property
    def lines(self) -> list[dict[str, str]]:
        written = os.pread(self._log_fd, 65536, 0).decode("ascii").splitlines()
        return [dict(re.findall(r" (\w+)=(\S+)", line)) for line in written]

    def close(self) -> None:
        os.close(self._root_fd)
        os.close(self._log_fd)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    (tmp_path / "file").write_bytes(CONTENT)
    (tmp_path / "small").write_bytes(b"small")
    (tmp_path / "sub").mkdir()
    made: list[Child] = []

    def make(*data: bytes, **settings: str | int | bool) -> Child:
        made.append(Child(tmp_path, Peer(*data), Settings(root=str(tmp_path), **settings)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def facts(answered: Answered) -> tuple[Status, bool, bool]:
    return answered.status, answered.midway, answered.cut


def test_a_whole_file_is_an_answer_that_is_neither_midway_nor_cut(child) -> None:
    one = child()
    assert facts(one.answer(Request("GET", b"/file", digest="sha256"))) == (Status.OK, False, False)
    head, _, rest = one.peer.taken.partition(b"\n")
    assert head.startswith(b"FS1 200 ok pid=42 ")
    trailer = b"FS1 END ok digest=sha256:" + hashlib.sha256(CONTENT).hexdigest().encode() + b"\n"
    assert rest == CONTENT + trailer
    assert one.peer.corks == [True, False], "one burst of segments"
    assert one.slot.sent_bytes == len(CONTENT)


def test_a_part_that_does_not_reach_the_end_of_the_file_is_midway_and_its_line_waits(child) -> None:
    one = child()
    assert facts(one.answer(Request("GET", b"/file", length=10))) == (Status.OK, True, False)
    assert one.lines == []
    assert facts(one.answer(Request("GET", b"/file", offset=10))) == (Status.OK, False, False)
    (line,) = one.lines
    assert (line["outcome"], line["sent"], line["offset"], line["size"]) == ("ok", "50000", "0", "50000")


def test_a_part_that_no_other_follows_is_told_as_partial(child) -> None:
    one = child()
    one.answer(Request("GET", b"/file", length=10))
    one.end_line.close(ExitStatus.DONE)
    assert [(line["outcome"], line["sent"]) for line in one.lines] == [("partial", "10")]


def test_a_part_after_which_the_peer_is_gone_is_told_so(child) -> None:
    one = child()
    one.answer(Request("GET", b"/file", length=10))
    one.end_line.close(ExitStatus.PEER_GONE)
    assert [line["outcome"] for line in one.lines] == ["peer-gone"]


def test_a_connection_without_a_request_has_one_line(child) -> None:
    one = child()
    one.end_line.close(ExitStatus.DONE)
    assert [(line["request"], line["outcome"]) for line in one.lines] == [("-", "no-request")]


def test_a_content_that_a_stop_breaks_off_is_cut(child) -> None:
    one = child()
    one.peer.phase = DRAINING + 1
    answered = one.answer(Request("GET", b"/file"))
    assert facts(answered) == (Status.OK, False, True)
    assert b'\nFS1 END draining sent=0 message="the server is being stopped"\n' in one.peer.taken
    assert [line["outcome"] for line in one.lines] == ["draining"]


def test_a_listing_that_a_drain_lets_finish_is_not_cut_and_a_stop_cuts_it(child) -> None:
    one = child()
    one.peer.phase = DRAINING
    assert facts(one.answer(Request("LIST", b"/"))) == (Status.OK, False, False)
    assert one.peer.taken.endswith(b"FS1 END ok entries=3\n")
    one.peer.phase = DRAINING + 1
    assert facts(one.answer(Request("LIST", b"/"))) == (Status.OK, False, True)
    assert one.peer.taken.endswith(b"FS1 END draining entries=0\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request("GET", b"/missing"), Status.NOT_FOUND),
        (Request("GET", b"/sub"), Status.NOT_A_FILE),
        (Request("LIST", b"/file"), Status.NOT_A_DIRECTORY),
        (Request("GET", b"/file", offset=50001), Status.BAD_RANGE),
        (Request("GET", b"/file", if_etag="another"), Status.CHANGED),
        (Request("STAT", b"/../etc/passwd"), Status.FORBIDDEN),
        (Request("PING"), Status.OK),
        (Request("STAT", b"/sub"), Status.OK),
    ],
    ids=lambda value: value.name if isinstance(value, Status) else value.verb,
)
def test_an_answer_without_a_content_is_one_line(child, request_, status) -> None:
    one = child()
    assert facts(one.answer(request_)) == (status, False, False)
    assert one.peer.taken.count(b"\n") == 1
    assert one.peer.taken.startswith(f"FS1 {status.digits} {status.word} pid=42 ".encode())
    assert [line["status"] for line in one.lines] == [status.digits]


def test_a_small_content_is_sent_at_once_and_the_digest_of_a_part_is_midway(child) -> None:
    one = child()
    one.answer(Request("GET", b"/small"))
    assert one.peer.taken.endswith(b"\nsmallFS1 END ok\n")
    assert one.peer.corks == []
    answered = one.answer(Request("STAT", b"/small", length=2, digest="sha256"))
    assert facts(answered) == (Status.OK, True, False)
    assert one.peer.taken.endswith(b"digest=sha256:" + hashlib.sha256(b"sm").hexdigest().encode() + b"\n")


def test_the_reader_returns_requests_in_order_however_they_are_cut(child) -> None:
    reader = child(b"PI", b"NG\nSTAT /a\nGET", b" /b\n").reader
    found = [reader.next_request(midway=False) for _ in range(4)]
    assert [(each.verb, each.name) if each else None for each in found] == [
        ("PING", b"/"),
        ("STAT", b"/a"),
        ("GET", b"/b"),
        None,
    ]


def test_the_reader_tolerates_a_drain_for_the_first_request_and_in_the_middle_of_a_file_only(child) -> None:
    one = child(b"PING\n", b"PING\n", b"PING\n")
    for midway in (False, False, True):
        one.reader.next_request(midway=midway)
    assert one.peer.tolerated == [DRAINING, SERVING, DRAINING]


def test_a_first_request_that_is_not_complete_in_time_is_an_error_and_an_idle_connection_is_none(child) -> None:
    with pytest.raises(ProtocolError) as caught:
        child(b"GET", b"silence").reader.next_request(midway=False)
    assert caught.value.status is Status.TOO_SLOW
    reader = child(b"PING\n", b"silence").reader
    assert reader.next_request(midway=False)
    assert reader.next_request(midway=False) is None


def test_a_bare_name_makes_the_replies_bare_and_each_piece_is_read_on_its_own(child) -> None:
    one = child(b"small", bare=True)
    request = one.reader.next_request(midway=False)
    assert request
    one.answer(request)
    assert one.peer.taken == b"42|file-exists|small"
