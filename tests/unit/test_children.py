from __future__ import annotations

import pytest

from forkserver.ipc.slots import SlotTable
from forkserver.master.children import Children


@pytest.fixture
def children() -> Children:
    return Children(3, SlotTable(3))


def fork(children: Children, pid: int, connection: int | None = None):
    child = children.prepare(connection)
    children.spawned(child, pid)
    return child


def test_a_child_forked_for_a_connection_is_not_idle_and_gives_it_back_when_it_dies(children):
    connection = children.open_connection("peer", 0.0)
    fork(children, 100, connection)
    assert (children.idle, len(children)) == (0, 1)
    reaped = children.died(100)
    assert reaped
    assert reaped[1]
    assert reaped[1].peer == "peer"
    assert (children.idle, len(children)) == (0, 0)


def test_a_spare_child_is_idle_until_a_connection_is_forwarded(children):
    spare = fork(children, 100)
    assert children.idle == 1
    connection = children.open_connection("peer", 0.0)
    children.forwarded()
    spare.slot.connection = connection
    assert children.idle == 0
    reaped = children.died(100)
    assert reaped
    assert reaped[1]
    assert reaped[1].peer == "peer"
    assert children.idle == 0


def test_a_spare_child_that_takes_a_connection_before_its_birth_is_noted_counts_as_idle_once(children):
    fork(children, 100)
    connection = children.open_connection("peer", 0.0)
    children.forwarded()
    child = children.prepare(None)
    child.slot.connection = connection  # the child runs, and takes it, while the master is still in fork(2)
    children.spawned(child, 101)
    assert children.idle == 1, "one waits, and of two children one has the connection"


def test_an_announcement_makes_a_child_idle_and_its_place_free(children):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    assert children.available(child.number, connection) == "peer"
    assert children.idle == 1
    reaped = children.died(100)
    assert reaped
    assert reaped[1] is None, "its connection was given back before"
    assert children.idle == 0


def test_an_announcement_that_is_read_after_its_childs_death_does_not_make_the_dead_idle(children):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    children.died(100)
    assert children.available(child.number, connection) is None
    assert children.idle == 0


def test_a_child_killed_with_its_second_connection_gives_that_one_back(children):
    first = children.open_connection("a", 0.0)
    child = fork(children, 100, first)
    children.available(child.number, first)
    second = children.open_connection("b", 0.0)
    children.forwarded()
    child.slot.connection = second
    reaped = children.died(100)
    assert reaped
    assert reaped[1]
    assert reaped[1].peer == "b"
    assert children.idle == 0


def kill_unseen(children: Children, pid: int, opened: float) -> int:
    """A spare child receives a connection, and is killed before it notes its number."""
    fork(children, pid)
    connection = children.open_connection("peer", opened)
    children.forwarded()
    children.died(pid)
    return connection


def test_a_child_killed_before_it_noted_its_connection_errs_to_too_few_idle_until_it_is_written_off(children):
    connection = kill_unseen(children, 100, opened=1.0)
    assert children.idle == -1
    assert children.write_off(before=1.0) == []
    assert children.write_off(before=1.1) == ["peer"]
    assert children.idle == 0
    assert children.close_connection(connection) is None, "the peer was given back once, and only once"
    assert children.write_off(before=9.9) == []


def test_a_connection_that_a_live_child_has_is_not_written_off(children):
    fork(children, 100, children.open_connection("peer", 0.0))
    assert children.write_off(before=9.9) == []


@pytest.mark.parametrize("end", ["announces", "dies"])
def test_a_child_that_was_only_stopped_before_it_noted_its_connection_is_not_counted_twice(children, end):
    child = fork(children, 100)
    connection = children.open_connection("peer", 0.0)
    children.forwarded()
    assert children.write_off(before=1.0) == ["peer"]
    child.slot.connection = connection  # it goes on
    if end == "announces":
        assert children.available(child.number, connection) is None
        assert children.idle == 1
    else:
        children.died(100)
        assert children.idle == 0


def test_places_are_as_many_as_the_capacity_and_come_back(children):
    taken = {fork(children, pid).slot_index for pid in (100, 101, 102)}
    with pytest.raises(IndexError):
        children.prepare(None)
    children.died(101)
    children.spawn_failed(children.prepare(None))
    fork(children, 103)
    with pytest.raises(IndexError):
        children.prepare(None)
    assert taken == {0, 1, 2}


def test_a_process_that_is_not_ours_is_not_a_child(children):
    assert children.died(4711) is None


def test_a_slot_is_clean_for_its_next_child(children):
    child = fork(children, 100)
    child.slot.count_sent(7)
    child.slot.count_request()
    children.died(100)
    slots = [children.prepare(None).slot for _ in range(3)]
    assert [(slot.connection, slot.sent_bytes, slot.requests) for slot in slots] == [(0, 0, 0)] * 3


def test_a_child_forked_for_its_connection_cannot_hide_it(children):
    child = fork(children, 100, children.open_connection("peer", 0.0))
    child.slot.connection = 0
    assert children.write_off(before=9.9) == []
    reaped = children.died(100)
    assert reaped
    assert reaped[1]
    assert reaped[1].peer == "peer"
    assert children.idle == 0


def test_an_announcement_of_what_nobody_has_makes_nobody_idle(children):
    connection = children.open_connection("peer", 0.0)
    child = fork(children, 100, connection)
    for false in (0, connection + 1, 2**64 - 1):
        assert children.available(child.number, false) is None
    assert children.available(child.number, connection) == "peer"
    assert children.available(child.number, connection) is None
    assert children.idle == 1


def test_a_connection_that_its_child_hides_is_written_off(children):
    child = fork(children, 100)
    child.slot.connection = children.open_connection("peer", 0.0)
    children.forwarded()
    assert children.write_off(before=9.9) == []
    child.slot.connection = 0
    assert children.write_off(before=9.9) == ["peer"]


def test_children_that_were_idle_all_the_while_are_not_needed(children):
    for pid in (100, 101, 102):
        fork(children, pid)
    children.unneeded()
    children.forwarded()
    children.forwarded()
    children.available(3, children.open_connection("peer", 0.0))
    assert children.idle == 2
    assert children.unneeded() == 1, "at one time only one was idle"
    assert children.unneeded() == 2


def test_a_child_that_died_idle_was_not_idle_all_the_while(children):
    fork(children, 100)
    children.unneeded()
    children.died(100)
    fork(children, 101)
    assert children.unneeded() == 0


def test_a_dismissed_child_is_counted_out_once(children):
    for pid in (100, 101, 102):
        fork(children, pid)
    children.dismissed()
    assert children.idle == 2
    children.died(101)
    assert children.idle == 2
    children.died(102)
    assert children.idle == 1, "nobody dismissed this one"


def test_the_children_that_say_they_are_about_to_end_are_found():
    table = SlotTable(300)
    children = Children(300, table)
    born = [fork(children, 1000 + number) for number in range(300)]
    assert children.ending() == []
    for number in (0, 150, 299):
        table.announce_end(born[number].slot_index)
    assert sorted(children.ending()) == [1000, 1150, 1299]
    children.died(1150)
    assert sorted(children.ending()) == [1000, 1299]
    assert [table.slot(child.slot_index).connection for child in born] == [0] * 300, "no row has changed"


def test_a_row_that_a_dead_child_has_marked_says_nothing_of_its_next_child():
    table = SlotTable(1)
    children = Children(1, table)
    child = fork(children, 100)
    children.died(100)
    table.announce_end(child.slot_index)  # written by somebody who was taken over
    fork(children, 101)
    assert children.ending() == []
