"""The bare dialect: which first bytes are one, and the pieces of its answer."""

from __future__ import annotations

import pytest

from forkserver.protocol.bare import MAX_NAME_BYTES, BareDialect, is_bare
from forkserver.protocol.messages import End, Entry, ProtocolError, Reply, Status, Trailer


@pytest.mark.parametrize(
    ("first", "bare"),
    [
        (b"GET /x\n", False),
        (b"STAT /x\n", False),
        (b"LIST /\n", False),
        (b"PING\n", False),
        (b"PING", False),
        (b"GET", True),
        (b"GETTYSBURG.txt", True),
        (b"get /x", True),
        (b"LISTING", True),
        (b"taxLaw.pdf", True),
        (b" GET /x", True),
        (b"\xff", True),
    ],
)
def test_the_first_bytes_decide(first: bytes, bare: bool) -> None:
    assert is_bare(first) is bare


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        (b"taxLaw.pdf", b"/taxLaw.pdf"),
        (b"/taxLaw.pdf", b"/taxLaw.pdf"),
        (b"a b%20\xff\n", b"/a b%20\xff\n"),
        (b"../x", b"/../x"),
        (b"x" * MAX_NAME_BYTES, b"/" + b"x" * MAX_NAME_BYTES),
    ],
)
def test_a_name_is_taken_as_it_is(sent: bytes, name: bytes) -> None:
    dialect = BareDialect()
    dialect.feed(sent)
    request = dialect.next_request()
    assert request is not None
    assert (request.verb, request.name, request.offset, request.length) == ("GET", name, 0, None)
    assert dialect.next_request() is None
    dialect.end_of_file()


def test_a_name_of_1025_bytes_is_too_long() -> None:
    dialect = BareDialect()
    dialect.feed(b"x" * (MAX_NAME_BYTES + 1))
    with pytest.raises(ProtocolError) as caught:
        dialect.next_request()
    assert caught.value.status is Status.TOO_LONG


def test_nothing_sent_is_no_request() -> None:
    assert BareDialect().next_request() is None


def test_a_file_is_answered_in_three_pieces_the_content_being_the_third() -> None:
    reply = Reply(Status.OK, {"pid": "4711", "length": "5"})
    assert BareDialect().reply(reply) == [b"4711", b"file-exists", b""]


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.OK])
def test_every_refusal_is_the_same(status: Status) -> None:
    assert BareDialect().reply(Reply(status, {"pid": "4711"})) == [b"4711", b"file-doesn't-exist"]


def test_end_of_file_alone_ends_the_content() -> None:
    assert BareDialect().trailer(Trailer(End.TRUNCATED, {"sent": "3"})) == b""


def test_listings_do_not_exist_in_it() -> None:
    with pytest.raises(AssertionError):
        BareDialect().entry(Entry("file", b"/x", {}))
