"""The shared queue, with real descriptors and real children."""

from __future__ import annotations

import os
import socket

import pytest

from forkserver.ipc.handover import Handover


@pytest.fixture
def handover():
    made = Handover(idle_s=1)
    yield made
    made.close()
    os.close(made.available_fd)
    os.close(made.intake.descriptors()[1])


@pytest.fixture
def pair():
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


def test_a_connection_arrives_with_its_number_and_its_peer(handover, pair):
    assert handover.forward(pair[0], 17, "[::1]:4711")
    assert not handover.empty
    connection, number, peer = handover.intake.take()
    with connection:
        assert (number, peer) == (17, "[::1]:4711")
        connection.sendall(b"through the copy")
        assert pair[1].recv(100) == b"through the copy"
        assert not os.get_inheritable(connection.fileno())
    assert handover.empty


def test_each_of_several_children_gets_another_connection(handover, pair):
    children = []
    for _ in range(3):
        pid = os.fork()
        if not pid:
            taken = handover.intake.take()
            os._exit(taken[1])
        children.append(pid)
    for number in (1, 2, 3):
        assert handover.forward(pair[0], number, "peer")
    assert sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children) == [1, 2, 3]


def test_a_queue_that_takes_no_more_says_so_and_loses_nothing(handover, pair):
    queued = 0
    while handover.forward(pair[0], queued, "peer"):
        queued += 1
        assert queued < 10_000
    assert queued > 0
    for number in range(queued):
        connection, taken, _ = handover.intake.take()
        connection.close()
        assert taken == number


def test_announcements_are_heard_in_order_whoever_made_them(handover):
    assert handover.read_available() == []
    handover.intake.announce(1, 10)
    handover.intake.announce(2**40, 2**63)
    assert handover.read_available() == [(1, 10), (2**40, 2**63)]
    assert handover.read_available() == []


def test_a_child_takes_what_is_queued_before_it_sees_that_the_queue_is_closed(handover, pair):
    handover.forward(pair[0], 5, "peer")
    pid = os.fork()
    if not pid:
        handover._queue.close()  # noqa: SLF001 - this end alone, as when the master dies
        connection, number, _ = handover.intake.take()
        connection.close()
        os._exit(number if handover.intake.take() is None else 99)
    handover._queue.close()  # noqa: SLF001 - this end alone, as when the master dies
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5


def test_a_child_with_nothing_to_do_ends_after_a_while(handover):
    assert handover.intake.take() is None


def test_an_announcement_to_a_master_that_is_gone_does_no_harm(handover):
    os.close(handover.available_fd)
    handover.intake.announce(1, 1)
    handover.available_fd = os.open(os.devnull, os.O_RDONLY)


def test_a_dismissal_ends_one_child_after_what_was_queued_before(handover, pair):
    handover.forward(pair[0], 7, "peer")
    assert handover.dismiss()
    handover.forward(pair[0], 8, "peer")
    taken = [handover.intake.take() for _ in range(3)]
    assert [each and each[1] for each in taken] == [7, None, 8]
    for each in taken:
        if each:
            each[0].close()


def test_a_queue_that_is_full_dismisses_nobody(handover, pair):
    while handover.forward(pair[0], 1, "peer"):
        pass
    assert not handover.dismiss()
