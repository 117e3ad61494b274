"""The socket to the logger: connected, and connected again by one process for all that have it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import tempfile
from typing import TYPE_CHECKING

import pytest

from forkserver.errors import OperatorError
from forkserver.supervisor import logsocket

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stands for /dev/log; nobody is there yet. Not beneath tmp_path, for a socket's name must be short."""
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setattr(logsocket, "PATH", f"{place}/log")
        yield f"{place}/log"


def listen(path: str, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
    logger = socket.socket(socket.AF_UNIX, kind)
    logger.bind(path)
    logger.settimeout(20)
    return logger


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def standard_error(monkeypatch: pytest.MonkeyPatch, fd: int) -> logsocket.LogSocket:
    """As if ``fd`` were it."""
    monkeypatch.setattr(logsocket, "_STDERR_FD", fd)
    return logsocket.LogSocket()


def test_what_is_written_goes_to_the_logger(path):
    with listen(path) as logger:
        fd = logsocket.connect()
        os.write(fd, b"line")
        assert logger.recv(100) == b"line"
        os.close(fd)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (None, "No such file or directory"),
        (socket.SOCK_DGRAM, "Connection refused"),
        (socket.SOCK_STREAM, "Protocol wrong type for socket"),
    ],
)
def test_a_logger_that_cannot_be_reached_is_one_line_with_path_reason_and_remedy(path, kind, reason):
    with contextlib.ExitStack() as stack:
        if kind:
            logger = stack.enter_context(listen(path, kind))
        if kind == socket.SOCK_DGRAM:
            logger.close()
        before = descriptors()
        with pytest.raises(OperatorError) as caught:
            logsocket.connect()
        assert descriptors() == before
    text = str(caught.value)
    assert text.startswith(f"--syslog: {path}: cannot reach the system's logger: {reason}; start one ")
    assert "--log-file" in text


def test_one_that_finds_no_room_waits_a_moment_only(path):
    with listen(path):
        fd = logsocket.connect()
        room = select.poll()
        room.register(fd, select.POLLOUT)
        while room.poll(0):
            os.write(fd, b"line")
        with pytest.raises(BlockingIOError):
            os.write(fd, b"line")
        os.close(fd)


def test_it_is_connected_again_for_all_who_inherited_it(path, monkeypatch):
    logger = listen(path)
    fd = logsocket.connect()
    inherited = os.dup(fd)
    ours = standard_error(monkeypatch, fd)
    logger.close()
    with pytest.raises(ConnectionRefusedError):
        os.write(inherited, b"lost")
    ours.reconnect()  # nobody there
    os.unlink(path)
    ours.reconnect()
    with pytest.raises(OSError, match="not connected"):
        os.write(inherited, b"lost")
    with listen(path) as logger:
        before = descriptors()
        ours.reconnect()
        os.write(inherited, b"heard")
        assert logger.recv(100) == b"heard"
        ours.reconnect()
        os.write(inherited, b"still")
        assert logger.recv(100) == b"still"
        assert descriptors() == before
    os.close(fd)
    os.close(inherited)


def test_no_line_is_lost_where_it_is_connected_again_before_one_is_written(path, monkeypatch):
    with listen(path):
        fd = logsocket.connect()
        ours = standard_error(monkeypatch, fd)
    os.unlink(path)
    with listen(path) as logger:
        ours.reconnect()
        os.write(fd, b"heard")
        assert logger.recv(100) == b"heard"
    os.close(fd)


def test_a_socket_without_a_path_is_left_alone(monkeypatch):
    with listen("\0forkserver-test-logger") as logger, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as abstract:
        abstract.connect(logger.getsockname())
        standard_error(monkeypatch, abstract.fileno()).reconnect()
        abstract.send(b"line")
        assert logger.recv(100) == b"line"
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        standard_error(monkeypatch, theirs.fileno()).reconnect()
        theirs.send(b"line")
        assert ours.recv(100) == b"line"


def test_what_is_no_socket_is_left_alone(tmp_path, monkeypatch):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        standard_error(monkeypatch, file.fileno()).reconnect()
        file.write(b"line")
    assert (tmp_path / "log").read_bytes() == b"line"
