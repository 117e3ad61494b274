"""Which stopped children are continued, without processes: the test says who is stopped and who has left."""

from __future__ import annotations

import pytest

from forkserver.ipc.slots import SlotTable
from forkserver.kernel.hangup import Hangups
from forkserver.master.children import Children
from forkserver.master.stopped import StoppedChildren


@pytest.fixture
def children() -> Children:
    return Children(3, SlotTable(3))


@pytest.fixture
def stopped(children) -> StoppedChildren:
    return of(children)


def of(children: Children) -> StoppedChildren:
    return StoppedChildren(children, Hangups())


def fork(children: Children, pid: int, connection: int | None = None):
    child = children.prepare(connection)
    children.spawned(child, pid)
    return child


def test_a_stopped_child_has_no_client_once_its_connection_has_hung_up(children, stopped):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    stopped.add(100)
    assert stopped.without_client() == []
    stopped.note_hangup(connection, gone=True)
    assert stopped.without_client() == [100]
    stopped.discard(100)
    assert not stopped


def test_a_hangup_that_came_before_the_stop_counts(children, stopped):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    stopped.note_hangup(connection, gone=True)
    assert stopped.without_client() == []
    stopped.add(100)
    assert stopped.without_client() == [100]


def test_a_child_that_goes_on_is_not_stopped(children, stopped):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    stopped.add(100)
    stopped.discard(100)
    stopped.note_hangup(connection, gone=True)
    assert not stopped
    assert stopped.without_client() == []


def test_a_child_stopped_after_its_announcement_was_made_and_before_it_was_read_has_no_client(children, stopped):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    stopped.add(100)
    assert stopped.without_client() == []
    children.available(child.number, connection)
    assert stopped.without_client() == [100]
    assert children.idle == 1


def test_a_stopped_child_that_seems_to_wait_has_no_client_and_nothing_is_to_be_written_off(children, stopped):
    child = fork(children, 100)
    connection = children.open_connection("peer", 0.0, "name")
    children.forwarded()
    stopped.add(100)
    assert stopped.without_client() == [100]
    assert stopped.any_waits, "the child may have the connection, and not have noted that"
    stopped.discard(100)
    assert not stopped.any_waits
    child.slot.connection = connection
    assert children.write_off(before=9.9) == []


def test_a_child_stopped_when_it_has_said_that_it_ends_has_no_client():
    table = SlotTable(1)
    children = Children(1, table)
    child = fork(children, 100, children.open_connection("peer", 0.0))
    table.announce_end(child.slot_index)
    stopped = of(children)
    stopped.add(100)
    assert stopped.without_client() == [100]


def test_a_process_that_is_not_ours_and_a_connection_that_nobody_has_are_passed_over(stopped):
    stopped.add(4711)
    stopped.note_hangup(4711, gone=True)
    assert not stopped
