"""How a connection ends: in order, with all that was sent, or in a reset, which frees what the kernel held for it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket

import pytest

from forkserver.child.peersocket import PeerSocket, PhaseSignal
from forkserver.ipc.slots import SlotTable
from forkserver.master.refusals import Refusals
from forkserver.protocol.messages import Identity, Status
from forkserver.settings import Settings
from forkserver.supervisor import listener

ANSWER = bytes(100_000)
"""More than the receive buffer of the client below takes in."""


@pytest.fixture
def pair():
    """The client's socket, and that of a connection which was accepted by a server of ours."""
    settings = Settings(bind=("127.0.0.1:0",))
    listeners = listener.bind(settings)
    listener.set_options(listeners, settings)
    (listening,) = listeners.values()
    with contextlib.ExitStack() as stack:
        stack.enter_context(listening)
        client = stack.enter_context(socket.socket())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(20)
        client.connect(listening.getsockname())
        accepted = stack.enter_context(listening.accept()[0])
        yield client, accepted


def read_to_the_end(client: socket.socket) -> bytes:
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def test_what_was_sent_before_an_orderly_close_arrives_although_the_peer_reads_it_only_afterwards(serve, root, unread):
    (root / "some").write_bytes(ANSWER)
    server = serve()
    with unread(server, b"GET /some\n", len(ANSWER), half_close=True) as client:
        server.process.terminate()
        server.wait_for(" drain ")
        server.process.send_signal(signal.SIGINT)  # the second signal: nobody waits for slow peers any more
        server.process.wait(20)
        assert read_to_the_end(client).endswith(b"FS1 END ok\n")


def test_the_child_of_an_answer_that_is_on_its_way_keeps_its_place_until_the_peer_has_taken_it(serve, root, unread):
    (root / "some").write_bytes(ANSWER)
    server = serve("--max-children", "1")
    with unread(server, b"GET /some\n", len(ANSWER), half_close=True) as client, server.connect() as other:
        other.sendall(b"PING\n")
        other.settimeout(0.5)
        with pytest.raises(TimeoutError):
            other.recv(1)
        other.settimeout(20)
        assert read_to_the_end(client).endswith(b"FS1 END ok\n")
        assert other.recv(1000).startswith(b"FS1 200 ok ")
    server.quiet()


def test_of_a_peer_that_does_not_take_an_answer_nothing_is_left_in_the_kernel(serve, root, tmp_path, unread):
    (root / "some").write_bytes(ANSWER)
    configuration = tmp_path / "forkserver.toml"
    configuration.write_text("stall_s = 0.5\n")
    server = serve("--config", str(configuration))
    with unread(server, b"GET /some\n", len(ANSWER), half_close=True) as client:
        server.wait_for(" receipt ")
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)


def test_a_connection_that_is_given_up_is_reset(pair):
    client, accepted = pair
    accepted.send(ANSWER)
    PeerSocket(accepted, PhaseSignal(SlotTable(1))).close(None)
    with pytest.raises(ConnectionResetError):
        read_to_the_end(client)


def test_a_refusal_arrives_although_the_master_has_closed_the_connection_by_then(pair):
    client, accepted = pair
    refusals = Refusals(Identity(1, 0))
    refusals.refuse(accepted, Status.BUSY, 0.0)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == bytes(8), "no reset"
    refusals.expire(60.0)
    assert accepted.fileno() == -1
    assert read_to_the_end(client).startswith(b"FS1 503 busy ")


@pytest.mark.parametrize("options", [(), ("--bare",)], ids=["native", "bare"])
def test_the_connection_of_a_killed_child_is_reset_at_once(serve, root, options):
    with (root / "large").open("wb") as file:
        file.truncate(64 << 20)
    server = serve(*options)
    with server.connect() as client:
        client.sendall(b"large" if options else b"GET /large\n")
        assert client.recv(1)
        (child,) = server.children()
        os.kill(child, signal.SIGKILL)
        with pytest.raises(ConnectionResetError):
            read_to_the_end(client)
    assert f" died pid={child} " in server.wait_for(" died pid=")


@pytest.mark.parametrize("digest", ["", " digest=sha256"])
def test_a_peer_that_reads_nothing_is_sent_little_more_than_it_has_room_for(serve, root, tmp_path, digest):
    with (root / "large").open("wb") as file:
        file.truncate(64 << 20)
    configuration = tmp_path / "forkserver.toml"
    configuration.write_text("stall_s = 0.5\n")
    server = serve("--config", str(configuration))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.connect((server.host, server.port))
        client.sendall(f"GET /large{digest}\n".encode())
        line = server.wait_for(" end ")
    sent = int(line.partition(" sent=")[2].split()[0])
    assert sent < 2 * 65536 + listener.UNSENT_BYTES + 65536, "its receive buffer, ours, and one segment"
