"""Many requests at once: what is sent may wait for what follows, and never for the peer."""

from __future__ import annotations

import os
import re
import socket
import threading

import pytest

from forkserver.child.docroot import Docroot
from forkserver.child.peersocket import PeerSocket, PhaseSignal
from forkserver.child.session import ServerSession
from forkserver.ipc.slots import SlotTable
from forkserver.logline import Log
from forkserver.protocol.messages import Identity
from forkserver.settings import Settings

MANY = 3000


class Noting(socket.socket):
    """Notes of everything sent whether it may wait for more."""

    waits: list[bool]

    def send(self, data, flags=0):
        self.waits.append(bool(flags & socket.MSG_MORE))
        return super().send(data, flags)


@pytest.fixture
def waits(root):
    """Serve one connection; gives of each answer whether it could wait for the next."""
    root_fd, log_fd = os.open(root, os.O_PATH | os.O_DIRECTORY), os.memfd_create("log")
    table = SlotTable(1)

    def serve(requests: bytes) -> list[bool]:
        ours, theirs = socket.socketpair()
        noting = Noting(fileno=theirs.detach())
        noting.waits = []
        with ours:
            ours.sendall(requests)
            ours.shutdown(socket.SHUT_WR)
            ServerSession(
                PeerSocket(noting, PhaseSignal(table)),
                peer="192.0.2.1:65535",
                settings=Settings(root=str(root)),
                docroot=Docroot(root_fd, hidden=False),
                slot=table.slot(0),
                identity=Identity(1, 0),
                log=Log(log_fd),
            ).serve()
        return noting.waits

    yield serve
    os.close(root_fd)
    os.close(log_fd)


def test_an_answer_waits_for_the_next_only_if_that_is_asked_for_already(waits):
    assert waits(b"PING\n" * 3) == [True, True, False]
    assert waits(b"GET /hello.txt digest=sha256\nGET /missing\nPING\nPI") == [True, True, False, False]


def test_a_request_that_is_cut_off_is_not_waited_for(waits):
    assert waits(b"PING\nGET /hello") == [False, False]


def test_thousands_of_requests_at_once_are_answered_in_order(serve, root):
    for number in range(10):
        (root / f"file-{number}").write_bytes(b"%d" % number * 1000)
    requests = b"".join(b"GET /file-%d digest=sha256\n" % (number % 10) for number in range(MANY))
    with serve().connect() as connection:
        sender = threading.Thread(target=connection.sendall, args=(requests,))
        sender.start()
        answer = b""
        while answer.count(b"FS1 END ok ") < MANY or not answer.endswith(b"\n"):
            piece = connection.recv(1 << 20)
            assert piece
            answer += piece
        sender.join()
    contents = re.findall(rb"length=1000\n((\d)\2{999})FS1 END ok", answer)
    assert [int(digit) for _, digit in contents] == [number % 10 for number in range(MANY)]
