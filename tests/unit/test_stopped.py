"""Which stopped children are killed, without processes: the test says who is stopped and who has left."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from forkserver.ipc.slots import SlotTable
from forkserver.kernel.hangup import Hangups
from forkserver.master.children import Children
from forkserver.master.stopped import StoppedChildren

if TYPE_CHECKING:
    from forkserver.ipc.handover import Handover


@pytest.fixture
def children() -> Children:
    return Children(3, SlotTable(3))


@pytest.fixture
def stopped(children) -> StoppedChildren:
    return of(children)


def of(children: Children) -> StoppedChildren:
    return StoppedChildren(children, cast("Handover", None), Hangups())


def fork(children: Children, pid: int, connection: int | None = None):
    child = children.prepare(connection)
    children.spawned(child, pid)
    return child


def pids_without_client(stopped: StoppedChildren, taken: list[int] | None = None) -> list[int]:
    return [child.pid for child in stopped.without_client(taken or [])]


def test_a_stopped_child_has_no_client_once_its_connection_has_hung_up(children, stopped):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    stopped.add(100)
    assert pids_without_client(stopped) == []
    stopped.note_hangup(connection, gone=True)
    assert pids_without_client(stopped) == [100]
    assert child.kill_reason == "it was stopped, and its client has left"
    assert pids_without_client(stopped) == [], "it is killed once"
    stopped.discard(100)
    assert not stopped


def test_a_hangup_that_came_before_the_stop_counts(children, stopped):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    stopped.note_hangup(connection, gone=True)
    assert pids_without_client(stopped) == []
    stopped.add(100)
    assert pids_without_client(stopped) == [100]


def test_a_child_that_goes_on_is_not_stopped(children, stopped):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    stopped.add(100)
    stopped.discard(100)
    stopped.note_hangup(connection, gone=True)
    assert not stopped
    assert pids_without_client(stopped) == []


def test_a_child_stopped_after_its_announcement_was_made_and_before_it_was_read_has_no_client(children, stopped):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    stopped.add(100)
    assert pids_without_client(stopped) == []
    children.available(child.number, connection)
    assert pids_without_client(stopped) == [100]
    assert child.kill_reason == "it was stopped while it had no client"
    assert children.idle == 1
    children.died(100)
    assert children.idle == 0


def test_a_connection_forwarded_to_a_stopped_child_leaves_one_idle_child_too_few(children, stopped):
    fork(children, 100)
    children.open_connection("peer", 0.0)
    children.forwarded()
    stopped.add(100)
    assert pids_without_client(stopped) == [100]
    children.died(100)
    assert children.idle == -1, "so that another child is forked, which takes the connection"


def test_a_stopped_child_that_may_have_taken_a_connection_unseen_is_left_alone_until_that_hangs_up(children, stopped):
    child = fork(children, 100)
    connection = children.open_connection("peer", 0.0, "name")
    children.forwarded()
    stopped.add(100)
    assert children.unclaimed() == [(connection, "name")]
    assert pids_without_client(stopped, [connection]) == []
    assert stopped.any_waits, "so nothing is written off: the connection is not lost"
    stopped.discard(100)
    assert not stopped.any_waits
    child.slot.connection = connection
    assert children.unclaimed() == []
    child.slot.connection = 0
    stopped.add(100)
    stopped.note_hangup(connection, gone=True)
    assert pids_without_client(stopped, [connection]) == [100]
    children.died(100)
    assert children.write_off(before=9.9) == ["peer"]
    assert children.idle == 0


def test_a_child_stopped_when_it_has_said_that_it_ends_has_no_client():
    table = SlotTable(1)
    children = Children(1, table)
    child = fork(children, 100, children.open_connection("peer", 0.0))
    table.announce_end(child.slot_index)
    stopped = of(children)
    stopped.add(100)
    assert pids_without_client(stopped) == [100]


def test_a_process_that_is_not_ours_and_a_connection_that_nobody_has_are_passed_over(stopped):
    stopped.add(4711)
    stopped.note_hangup(4711, gone=True)
    assert not stopped
