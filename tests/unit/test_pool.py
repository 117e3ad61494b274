"""The pool without processes: forks succeed or fail, and children die, as the test says."""

from __future__ import annotations

import os
import resource
import signal
import socket
from collections.abc import Iterator

import pytest

from forkserver.errors import EX_BUG, ExitStatus, OperatorError
from forkserver.ipc.slots import DRAINING, SlotTable
from forkserver.logline import Log
from forkserver.master import spawn
from forkserver.master.admission import Admission
from forkserver.master.pool import Pool
from forkserver.settings import Settings

DONE, BUG, STOPPED, CONTINUED = 0, EX_BUG << 8, signal.SIGSTOP << 8 | 0x7F, 0xFFFF


class Queue:
    """The queue of connections, without children that take any."""

    def __init__(self) -> None:
        self.broken = self.full = self.closed = False
        self.empty = True
        self.forwarded: list[int] = []
        self.dismissals = 0
        self.announced: list[tuple[int, int]] = []

    def forward(self, _connection: socket.socket, number: int, _peer: str) -> bool:
        if not self.full:
            self.forwarded.append(number)
        return not self.full

    def read_available(self) -> list[tuple[int, int]]:
        announced, self.announced = self.announced, []
        return announced

    def dismiss(self) -> bool:
        self.dismissals += not self.full
        return not self.full

    def close(self) -> None:
        self.closed = True


class PoolSetup:
    """A pool, with what it was given and what it logged."""

    def __init__(self, monkeypatch, log_path, **settings: int) -> None:
        values = Settings(**{"max_children": 4, **settings})
        self.table = SlotTable(values.max_children)
        self.admission = Admission(values.peer_limit)
        self.queue = Queue()
        self.log_path = log_path
        self.log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT)
        self.pool = Pool(
            settings=values,
            admission=self.admission,
            handover=self.queue,  # type: ignore[arg-type]
            table=self.table,
            work=lambda _child, _slot_index, _first: 0,  # type: ignore[arg-type, return-value]
            log=Log(self.log_fd),
        )
        self.forks = 0
        self.fork_fails = False
        self.changed: list[spawn.Change] = []
        self.signals: list[tuple[int, int]] = []
        monkeypatch.setattr(spawn, "spawn", self._spawn)
        monkeypatch.setattr(spawn, "wait_for", lambda _pid: self.changed.pop(0) if self.changed else None)
        monkeypatch.setattr(os, "kill", lambda pid, number: self.signals.append((pid, number)))
        self.ours, self.theirs = socket.socketpair()

    def _spawn(self, _work: object, _log: Log) -> int:
        if self.fork_fails:
            raise BlockingIOError(11, "no process can be had")
        self.forks += 1
        return 1000 + self.forks

    def changes(self, fork: int, wait_status: int) -> None:
        self.changed.append((1000 + fork, wait_status, resource.getrusage(resource.RUSAGE_CHILDREN)))

    def dies(self, fork: int, wait_status: int, now: float) -> None:
        self.changes(fork, wait_status)
        self.pool.reap(now)

    def dispatch(self, now: float, peer: str = "a") -> bool:
        return self.pool.admit(peer, now) and self.pool.dispatch(self.ours, peer, f"{peer}:1", now)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def close(self) -> None:
        os.close(self.log_fd)
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def setup(monkeypatch, tmp_path, request) -> Iterator[PoolSetup]:
    made = PoolSetup(monkeypatch, tmp_path / "log", **getattr(request, "param", {}))
    yield made
    made.close()


with_spares = pytest.mark.parametrize("setup", [{"spare": 2}], indirect=True)
with_queue = pytest.mark.parametrize("setup", [{"connections_per_child": 9}], indirect=True)


def test_a_connection_gets_a_child_of_its_own_until_there_are_as_many_as_may_be(setup):
    assert [setup.dispatch(1.0, peer) for peer in "aabb"] == [True] * 4
    assert setup.forks == 4
    assert not setup.pool.has_room(1.0)
    assert setup.pool.counts == (4, 0)


def test_the_children_of_other_generations_take_their_room(setup):
    setup.pool.other_children = 3
    assert setup.dispatch(1.0)
    assert not setup.pool.has_room(1.0)


def test_a_connection_is_counted_until_its_child_has_died(setup):
    assert setup.dispatch(1.0)
    assert setup.admission.count("a") == 1
    setup.dies(1, DONE, 2.0)
    assert setup.admission.count("a") == 0
    assert setup.pool.counts == (0, 1)
    assert " receipt pid=1001 cause=done" in setup.log


def test_before_a_peer_is_refused_those_that_have_died_meanwhile_are_reaped(setup):
    assert [setup.dispatch(1.0) for _ in range(2)] == [True, True]
    assert not setup.pool.admit("a", 1.0)
    setup.changes(1, DONE)
    assert setup.pool.admit("a", 1.0)


def test_where_no_process_can_be_had_the_connection_is_the_callers_again_and_forks_pause(setup):
    setup.fork_fails = True
    assert not setup.dispatch(1.0)
    assert setup.admission.count("a") == 0
    assert setup.pool.counts == (0, 0)
    assert not setup.pool.has_room(1.05)
    assert setup.pool.timers[0] == 1.1
    assert 'throttle reason="fork failed: no process can be had" pause_s=0.1' in setup.log
    setup.fork_fails = False
    assert setup.pool.has_room(1.1)


@with_spares
def test_as_many_children_as_are_spare_are_kept_idle(setup):
    setup.pool.replenish(1.0)
    assert setup.forks == 2
    assert setup.dispatch(1.0)
    assert setup.queue.forwarded == [1]
    setup.pool.replenish(1.0)
    assert setup.forks == 3


@with_spares
def test_where_the_queue_takes_nothing_a_child_is_forked_although_one_is_idle(setup):
    setup.pool.replenish(1.0)
    setup.queue.full = True
    assert setup.dispatch(1.0)
    assert setup.forks == 3


@with_queue
def test_a_child_that_announces_itself_gives_its_connection_back_and_gets_the_next(setup):
    assert setup.dispatch(1.0)
    setup.queue.announced = [(1, 1)]
    setup.pool.read_announcements()
    assert setup.pool.counts == (1, 1)
    assert setup.dispatch(2.0)
    assert (setup.forks, setup.queue.forwarded) == (1, [2])


def test_a_queue_that_a_child_has_shut_down_ends_the_master(setup):
    setup.queue.broken = True
    with pytest.raises(OperatorError, match="it was taken over"):
        setup.pool.read_announcements()


def test_children_that_die_before_they_serve_anything_make_forks_pause_once_for_all(setup):
    for _ in range(3):
        assert setup.dispatch(1.0, str(setup.forks))
    for fork in (1, 2, 3):
        setup.dies(fork, BUG, 2.0)
    assert setup.pool.timers[0] == 2.1
    assert setup.log.count("pause_s=0.1") == 3
    assert setup.log.count(" died pid=") == 3


def test_a_child_that_has_served_something_makes_the_next_pause_a_short_one(setup):
    for now in (1.0, 2.0):
        assert setup.dispatch(now)
        setup.dies(setup.forks, BUG, now)
    assert setup.pool.timers[0] == 2.2
    assert setup.dispatch(3.0)
    setup.table.slot(0).count_request()
    setup.dies(3, BUG, 3.0)
    assert setup.dispatch(3.0)
    setup.dies(4, BUG, 3.0)
    assert setup.pool.timers[0] == 3.1


@with_spares
def test_a_spare_that_does_not_wait_makes_forks_pause(setup):
    setup.pool.replenish(1.0)
    setup.dies(1, DONE, 1.5)
    assert 'throttle reason="a child that was to wait for connections did not wait"' in setup.log
    setup.dies(2, DONE, 2.5)
    assert setup.log.count(" throttle ") == 1, "this one has waited"


@with_spares
def test_spares_that_end_because_the_master_drains_are_no_reason_to_pause(setup):
    setup.pool.replenish(1.0)
    setup.pool.set_phase(DRAINING)
    setup.pool.close()
    assert setup.queue.closed
    assert setup.signals == [(1001, signal.SIGUSR1), (1002, signal.SIGUSR1)]
    setup.dies(1, DONE, 1.1)
    assert " throttle " not in setup.log
    setup.pool.replenish(1.1)
    assert setup.forks == 2


@with_spares
def test_a_stopped_child_without_a_client_is_continued(setup):
    setup.pool.replenish(1.0)
    setup.changes(1, STOPPED)
    setup.pool.reap(1.0)
    assert setup.pool.stopped
    setup.pool.stopped.continue_without_client()
    assert setup.signals == [(1001, signal.SIGCONT)]
    setup.changes(1, CONTINUED)
    setup.pool.reap(1.0)
    assert not setup.pool.stopped


@with_queue
def test_half_of_the_children_that_nobody_needs_are_dismissed_each_second_and_one_stays(setup):
    for fork in range(1, 5):
        assert setup.dispatch(1.0, str(fork))
    setup.queue.announced = [(fork, fork) for fork in range(1, 5)]
    setup.pool.read_announcements()
    dismissed = []
    for now in (1.0, 2.0, 2.5, 3.0, 4.0, 5.0):
        setup.pool.run_timers(now)
        dismissed.append(setup.queue.dismissals)
    assert dismissed == [0, 2, 2, 3, 3, 3]


@with_spares
def test_a_connection_that_was_lost_with_its_child_is_given_back_once_the_queue_is_empty(setup):
    setup.pool.replenish(1.0)
    assert setup.dispatch(1.0)
    setup.dies(1, signal.SIGKILL, 1.5)
    setup.queue.empty = False
    setup.pool.run_timers(5.0)
    assert setup.admission.count("a") == 1
    setup.queue.empty = True
    setup.pool.run_timers(6.0)
    assert setup.admission.count("a") == 0


@with_spares
def test_nothing_is_given_back_while_a_child_that_seems_to_wait_is_stopped(setup):
    setup.pool.replenish(1.0)
    assert setup.dispatch(1.0)
    setup.changes(1, STOPPED)
    setup.pool.reap(1.0)
    setup.pool.run_timers(5.0)
    assert setup.admission.count("a") == 1
    setup.changes(1, CONTINUED)
    setup.pool.reap(5.5)
    setup.pool.run_timers(6.0)
    assert setup.admission.count("a") == 0


@pytest.mark.parametrize(
    ("wait_status", "cause"),
    [
        (0, "done"),
        (ExitStatus.RETIRED << 8, "retired"),
        (ExitStatus.PEER_GONE << 8, "peer-gone"),
        (ExitStatus.PEER_TOO_SLOW << 8, "peer-too-slow"),
    ],
)
def test_an_end_in_order_is_a_receipt_and_no_reason_to_pause(setup, wait_status, cause):
    assert setup.dispatch(1.0)
    setup.dies(1, wait_status, 2.0)
    assert f" receipt pid=1001 cause={cause} " in setup.log
    assert " throttle " not in setup.log


@pytest.mark.parametrize(
    ("wait_status", "cause"),
    [
        (ExitStatus.BUG << 8, "bug"),
        (99 << 8, "exit-99"),
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGSEGV | 0x80, "SIGSEGV"),
        (40, "signal-40"),
    ],
)
def test_every_other_end_has_a_name_and_is_a_reason_to_pause(setup, wait_status, cause):
    assert setup.dispatch(1.0)
    setup.dies(1, int(wait_status), 2.0)
    assert f" died pid=1001 cause={cause} " in setup.log
    assert " throttle " in setup.log


def test_a_process_that_is_no_child_of_the_pool_is_passed_over(setup):
    setup.dies(3711, DONE, 1.0)
    assert setup.pool.counts == (0, 0)
    assert setup.log == ""
