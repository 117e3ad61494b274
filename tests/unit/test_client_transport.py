"""The transport of ``fsget`` with a socket whose other end the test holds: requests, answers, and how they end."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from forkserver.client.outcome import Failure, Served, Word
from forkserver.client.remote import transport as module
from forkserver.client.remote.address import Address
from forkserver.client.remote.dial import NoAnswer
from forkserver.client.remote.transport import Transport
from forkserver.protocol.messages import Reply, Request, Trailer

ADDRESS = Address("192.0.2.1", 2057)
REPLY = b"FS1 200 ok pid=7 start=1.5\n"
FILE = b"FS1 200 ok pid=7 start=1.5 type=file size=4 mtime=1.000000000 mode=644 etag=e offset=0 length=4\n"


@pytest.fixture
def server(monkeypatch) -> Iterator[socket.socket]:
    """The server's end of the connection that the transport makes next."""
    ours, theirs = socket.socketpair()

    def connect(_address: Address, timeout_s: float) -> socket.socket:
        theirs.settimeout(timeout_s)
        return theirs

    monkeypatch.setattr(module, "connect", connect)
    ours.settimeout(20)
    with ours, theirs:
        yield ours


@pytest.fixture
def transport(server) -> Transport:  # noqa: ARG001 - the server is to be there first
    made = Transport(0.05, None, threading.Event())
    made.connect(ADDRESS)
    return made


def test_requests_are_sent_together_when_the_first_reply_is_awaited(transport, server):
    transport.request(Request("PING"))
    transport.request(Request("STAT", b"/a"))
    server.setblocking(False)
    with pytest.raises(BlockingIOError):
        server.recv(100)
    server.sendall(REPLY)
    assert isinstance(transport.reply(), Reply)
    assert server.recv(100) == b"PING\nSTAT /a\n"
    assert transport.served == Served(7, "1.5", str(ADDRESS))


def test_a_content_comes_before_its_trailer(transport, server):
    transport.request(Request("GET", b"/a"))
    server.sendall(FILE)
    transport.reply()
    server.sendall(b"1234FS1 END ok\n")
    assert bytes(transport.receive()) == b"1234"
    assert isinstance(transport.receive(), Trailer)
    assert transport.received_bytes == 4


def test_an_answer_that_is_there_whole_is_taken_at_once(transport, server):
    transport.request(Request("PING"))
    transport.request(Request("GET", b"/a"))
    server.sendall(REPLY + FILE + b"1234FS1 END ok\n")
    transport.reply()
    whole = transport.next_whole()
    assert whole
    assert bytes(whole[1]) == b"1234"


@pytest.mark.parametrize("sent", [b"", REPLY], ids=["ever", "to a later request"])
def test_a_server_that_hangs_up_before_a_byte_gives_no_answer(transport, server, sent):
    transport.request(Request("PING"))
    server.sendall(sent)
    if sent:
        transport.reply()
        transport.request(Request("PING"))
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(NoAnswer):
        transport.reply()
    assert not transport.connected


def test_a_connection_that_ends_in_a_content_is_lost(transport, server):
    transport.request(Request("GET", b"/a"))
    server.sendall(FILE)
    transport.reply()
    server.shutdown(socket.SHUT_WR)
    with pytest.raises(Failure, match="the connection was lost") as failure:
        transport.receive()
    assert failure.value.word == Word.CONNECTION_LOST
    assert failure.value.served == transport.served
    assert not transport.connected


def test_a_silent_server_is_told_and_the_connection_stays(transport):
    transport.request(Request("PING"))
    with pytest.raises(Failure, match=r"192\.0\.2\.1:2057 sent nothing for 0\.05 s: perhaps it is full") as failure:
        transport.reply()
    assert failure.value.word == Word.TIMEOUT
    assert transport.connected


@pytest.mark.parametrize("first", [True, False], ids=["never spoke the protocol", "spoke it before"])
def test_what_is_no_protocol_is_told_from_a_protocol_that_is_broken(transport, server, first):
    if not first:
        transport.request(Request("PING"))
        server.sendall(REPLY)
        transport.reply()
    transport.request(Request("PING"))
    server.sendall(b"SSH-2.0-x\r\n")
    with pytest.raises(Failure) as failure:
        transport.reply()
    assert failure.value.word == (Word.NOT_A_FORKSERVER if first else Word.PROTOCOL_ERROR)
    assert not transport.connected


def test_another_thread_can_end_a_wait(server):
    transport = Transport(20.0, None, threading.Event())
    transport.connect(ADDRESS)
    transport.request(Request("PING"))

    def end_the_wait() -> None:
        server.recv(100)
        transport.shut_down()

    waiter = threading.Thread(target=end_the_wait)
    waiter.start()
    with pytest.raises(NoAnswer):
        transport.reply()
    waiter.join()
