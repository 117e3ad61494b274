"""Which children are waited for, and when, without processes: the kernel is a table of those that have changed."""

from __future__ import annotations

import resource

import pytest

from forkserver.ipc.slots import SlotTable
from forkserver.master import spawn
from forkserver.master.children import Child, Children
from forkserver.master.spawn import LOOK_EVERY_S, MAX_FEW, Reaper

CAPACITY = MAX_FEW + 10


class ReaperSetup:
    """Children, their reaper, and a kernel that counts how often it had to look at all of them."""

    def __init__(self, count: int) -> None:
        self.table = SlotTable(CAPACITY)
        self.children = Children(CAPACITY, self.table)
        self.reaper = Reaper(self.children)
        self.forked: dict[int, Child] = {}
        for pid in range(1, count + 1):
            self.forked[pid] = self.children.prepare(None)
            self.children.spawned(self.forked[pid], pid)
        self.changed: dict[int, spawn.Change] = {}
        self.looks = 0

    def dies(self, pid: int, *, announces: bool) -> None:
        self.changed[pid] = pid, 0, resource.getrusage(resource.RUSAGE_CHILDREN)
        if announces:
            self.table.announce_end(self.forked[pid].slot_index)

    def wait_for(self, pid: int) -> spawn.Change | None:
        if pid != -1:
            return self.changed.pop(pid, None)
        if self.changed:
            return self.changed.popitem()[1]
        self.looks += 1
        return None

    def reaped(self, now: float) -> list[int]:
        found = [pid for pid, _, _ in self.reaper.changes(now)]
        for pid in found:
            self.children.died(pid)
        return sorted(found)


@pytest.fixture
def setup(monkeypatch, request) -> ReaperSetup:
    made = ReaperSetup(request.param)
    monkeypatch.setattr(spawn, "wait_for", made.wait_for)
    return made


few = pytest.mark.parametrize("setup", [MAX_FEW], indirect=True)
many = pytest.mark.parametrize("setup", [MAX_FEW + 1], indirect=True)


@few
def test_where_there_are_few_children_each_look_is_at_all_of_them(setup):
    for now in (0.0, 0.1, 0.2):
        setup.dies(1 + int(now * 10), announces=False)
        assert setup.reaped(now) == [1 + int(now * 10)]
    assert setup.looks == 3
    assert setup.reaper.due_at == float("inf"), "nothing is left for later"


@many
def test_where_there_are_many_those_that_announce_their_end_are_reaped_at_once_and_one_by_one(setup):
    setup.reaped(10.0)
    setup.dies(7, announces=True)
    setup.dies(9, announces=False)
    assert setup.reaped(10.1) == [7]
    assert setup.looks == 1


@many
def test_where_there_are_many_one_that_died_without_a_word_is_found_within_half_a_second(setup):
    setup.reaped(10.0)
    setup.dies(9, announces=False)
    assert setup.reaped(10.1) == []
    assert setup.reaper.due_at == 10.0 + LOOK_EVERY_S
    assert setup.reaped(setup.reaper.due_at) == [9]
    assert setup.reaper.due_at == float("inf")
    assert setup.looks == 2


@many
def test_one_that_announced_its_end_and_has_not_died_yet_is_waited_for_again(setup):
    setup.reaped(10.0)
    setup.table.announce_end(setup.forked[7].slot_index)
    assert setup.reaped(10.1) == []
    setup.dies(7, announces=True)
    assert setup.reaped(10.2) == [7]
