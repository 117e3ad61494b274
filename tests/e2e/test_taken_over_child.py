"""What a child that an intruder controls can do to the others, played by a test that reaches into it."""

from __future__ import annotations

import ctypes
import os
import socket

import pytest

from forkserver.ipc.handover import IDLE_CHILD_S

SYS_PIDFD_GETFD = 438
OWN_DESCRIPTORS = 6  # standard streams, root, queue, pipe
LIBC = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can reach into another process that is shielded")


@pytest.fixture
def queue_of(eventually):
    """``queue_of(pid)``: the very socket from which a child that waits takes connections."""
    taken = []

    def take(pid: int) -> socket.socket:
        directory = f"/proc/{pid}/fd"
        eventually(lambda: len(os.listdir(directory)) == OWN_DESCRIPTORS, "it has dropped what is not its own")
        pidfd = os.pidfd_open(pid)
        for number in map(int, os.listdir(directory)):
            fd = LIBC.syscall(*map(ctypes.c_long, (SYS_PIDFD_GETFD, pidfd, number, 0)))
            if fd < 0:
                continue
            try:
                each = socket.socket(fileno=fd)
            except OSError:
                os.close(fd)
                continue
            taken.append(each)
            if number > 2 and (each.family, each.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                os.close(pidfd)
                return each
        raise AssertionError("this child has no queue")

    yield take
    for each in taken:
        each.close()


def test_a_queue_that_is_shut_down_costs_a_master_and_no_connection(serve, queue_of):
    server = serve("--spare", "2", "--connections-per-child", "9")
    server.wait_until(lambda: len(server.children()) == 2, "two that wait")
    queue_of(server.children()[0]).shutdown(socket.SHUT_RDWR)
    server.wait_for(" throttle reason=", 3)
    assert len(server.log(" receipt ")) < 20, f"they should have waited for {IDLE_CHILD_S} s"
    assert server.ask(b"GET /hello.txt\n").startswith((b"FS1 200 ", b"FS1 503 "))
    assert "a child has shut down the queue" in server.wait_for(" master-died ")
    server.wait_for(" ready ", 2)
    for _ in range(5):
        assert server.ask(b"GET /hello.txt\n").endswith(b"FS1 END ok\n")


def test_a_queue_on_which_nobody_can_wait_makes_no_storm_of_forks(serve, queue_of):
    server = serve("--spare", "2", "--connections-per-child", "9")
    server.wait_until(lambda: len(server.children()) == 2, "two that wait")
    timeval = (0).to_bytes(8, "little") + (1).to_bytes(8, "little")
    queue_of(server.children()[0]).setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    for _ in range(5):
        assert server.ask(b"GET /hello.txt\n").endswith(b"FS1 END ok\n")
    server.wait_for(" throttle reason=", 4)
    assert len(server.log(" receipt ")) < 20, f"they should have waited for {IDLE_CHILD_S} s"
