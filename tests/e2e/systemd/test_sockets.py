"""Listening elsewhere: which steps cost nobody a connection, and which do, as docs/operations.md says."""

from __future__ import annotations

import contextlib
import re
import socket
from pathlib import Path

import pytest

OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"
PLACES = 4
WAITING = 10
MORE = "/etc/systemd/system/forkserver-more.socket"
ADDS_MORE = "/run/systemd/system/forkserver.service.d/test-more.conf"
MOVES = "/run/systemd/system/forkserver.socket.d/test.conf"
CONFIGURATION = "/etc/forkserver/forkserver.toml"


@pytest.fixture
def full(service):
    """The service with few places, all of them taken by clients that take their time."""
    before = service.run("cat", CONFIGURATION).stdout
    settings = f"{before}\nmax_children = {PLACES}\nmax_per_peer = 100\ndrain_s = 2.0\n"
    service.run("sh", "-c", f'printf %s "$0" >{CONFIGURATION}; truncate --size 64M /srv/files/m64.bin', settings)
    service.run("systemctl", "restart", "forkserver.service")
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES):
            client = stack.enter_context(socket.create_connection(service.address, 60))
            client.sendall(b"GET /m64.bin\n")
            assert client.recv(1)
        yield service
    service.run("sh", "-c", f'printf %s "$0" >{CONFIGURATION}; rm /srv/files/m64.bin', before)
    service.run("systemctl", "disable", "--quiet", "forkserver-more.socket", check=False)
    service.run("rm", "-f", MORE, ADDS_MORE, MOVES)
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "stop", "forkserver-more.socket", check=False)
    service.run("systemctl", "restart", "forkserver.socket", "forkserver.service")


@pytest.fixture
def waiting():
    """``waiting(host, port)``: clients that have asked; in the backlog, where the service is full."""
    with contextlib.ExitStack() as stack:

        def connect(host: str = "127.0.0.1", port: int = 2057) -> list[socket.socket]:
            clients = [stack.enter_context(socket.create_connection((host, port), 60)) for _ in range(WAITING)]
            for client in clients:
                client.sendall(b"PING\n")
                client.shutdown(socket.SHUT_WR)
            return clients

        yield connect


def what_came_of(clients: list[socket.socket]) -> set[str]:
    """``served`` or ``reset``: what clients met."""
    found = set()
    for client in clients:
        try:
            found.add("served" if client.recv(4096).startswith(b"FS1 200 ok ") else "closed")
        except ConnectionResetError:
            found.add("reset")
    return found


def documented(name: str) -> str:
    """The contents that docs/operations.md gives for a file."""
    found = re.search(rf"`{re.escape(name)}`[^\n]*:\n\n```ini\n(.*?)```", OPERATIONS.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_a_restart_of_the_service_loses_no_client_that_waits_for_a_full_server(full, waiting) -> None:
    clients = waiting()
    full.run("systemctl", "restart", "forkserver.service")
    assert what_came_of(clients) == {"served"}


def test_a_restart_of_the_socket_unit_resets_the_clients_that_wait(full, waiting) -> None:
    clients = waiting()
    full.run("systemctl", "restart", "forkserver.socket")
    assert what_came_of(clients) == {"reset"}, "what docs/operations.md says of the cost"


def test_where_the_socket_unit_is_down_a_restart_of_the_service_brings_both_up(full, waiting) -> None:
    full.run("systemctl", "stop", "forkserver.socket")
    assert full.show("ActiveState") == "inactive"
    full.run("systemctl", "restart", "forkserver.service")
    assert [full.show("ActiveState", f"forkserver.{kind}") for kind in ("socket", "service")] == ["active"] * 2
    assert what_came_of(waiting()) == {"served"}


def test_a_second_socket_unit_adds_an_address_and_then_the_first_can_move_without_losing_a_client(
    full, waiting
) -> None:
    clients = waiting()
    for path, name in ((MORE, MORE), (ADDS_MORE, "systemctl edit forkserver")):
        full.run("sh", "-c", f'mkdir -p {Path(path).parent}; printf %s "$0" >{path}', documented(name))
    full.run("systemctl", "daemon-reload")
    full.run("systemctl", "enable", "--quiet", "forkserver-more.socket")
    full.run("systemctl", "restart", "forkserver.service")
    assert what_came_of(clients) == {"served"}, "who waited at the old address"
    assert what_came_of(waiting("127.0.0.1", 2058)) == {"served"}
    # All clients have moved to the new address.
    full.run(
        "sh",
        "-c",
        f'mkdir -p {Path(MOVES).parent}; printf %s "$0" >{MOVES}',
        documented("systemctl edit forkserver.socket"),
    )
    full.run("systemctl", "daemon-reload")
    with contextlib.ExitStack() as stack:
        for _ in range(PLACES):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", 2058), 60))
            client.sendall(b"GET /m64.bin\n")
            assert client.recv(1)
        clients = waiting("127.0.0.1", 2058)
        full.run("systemctl", "restart", "forkserver.socket")
    assert what_came_of(clients) == {"served"}, "who waited at the new address"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", 2057), 60)
