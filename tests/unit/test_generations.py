"""Whatever the order in which masters start, get ready and die: somebody accepts, starts, or is due to be started."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import ClassVar

import pytest

from forkserver.ipc import control
from forkserver.logline import Log
from forkserver.settings import Settings
from forkserver.supervisor import generations, listener, orphans
from forkserver.supervisor.generations import Generations

SETTINGS = Settings(port=0)


class Generation:
    """One without a process: the test says what it says, and when it dies."""

    started: ClassVar[list[Generation]] = []
    """All of one story, in the order of their starts."""

    def __init__(self, number: int, settings: Settings, listeners: object) -> None:
        self.number = self.pid = number
        self.settings = settings
        self.listeners = listeners
        self.version = "1"
        self.ready = self.retiring = self.dead = self.removed = self.says_ready = self.stuck = False
        self.counts_known = True
        self.bad_message = self.complaint = ""
        self.children = self.served = 0
        self.table = None
        self.unsent_peers: set[str] = set()
        self.peers: dict[str, int] = {}
        self.words: list[bytes] = []
        self.started.append(self)

    def read_messages(self) -> tuple[bool, set[str]]:
        heard = self.says_ready
        self.ready |= heard
        self.says_ready = False
        return heard, set()

    def retire(self, successor: Generation) -> None:
        assert not self.retiring
        assert successor is not self
        self.retiring = True
        self.send_order(control.YIELD)

    def send_order(self, order: bytes) -> None:
        assert self.words[-1:] not in ([control.DRAIN], [control.STOP]), "it has its last order"
        self.words.append(order)

    def check_heartbeat(self) -> str:
        stuck, self.stuck = self.stuck, False
        return "stuck" if stuck else ""

    def kill(self) -> None:
        pass  # it takes its time

    def abandon(self) -> None:
        self.retiring = True

    def poll_exit(self) -> str | None:
        return "SIGKILL" if self.dead else None

    def close(self) -> None:
        self.removed = True


@pytest.fixture(autouse=True)
def without_processes(monkeypatch) -> None:
    monkeypatch.setattr(generations, "Generation", Generation)
    monkeypatch.setattr(orphans, "reap", lambda _: [])


@pytest.fixture(scope="module")
def log() -> Iterator[Log]:
    with open(os.devnull, "wb") as nowhere:
        yield Log(nowhere.fileno())


class Story:
    """A step is what happens to the oldest or newest of its kind, or a turn of the loop."""

    def __init__(self, log: Log) -> None:
        self._started: list[Generation] = []
        Generation.started = self._started
        listeners = listener.bind(SETTINGS)
        self.masters = Generations(SETTINGS, listeners, log)
        self.masters.start(0.0)
        self.now = 0.0
        self.take("first is ready")
        self._turn()

    def take_with_a_turn(self, steps: tuple[str, ...]) -> int:
        """Take steps up to the first that changes nothing, then a turn; return how many were taken."""
        taken = sum(1 for _ in itertools.takewhile(self.take, steps))
        self._turn()
        return taken

    def take(self, step: str) -> bool:
        """Take a step; return False if it changes nothing, or the same as the step of the ``first`` would."""
        which, _, what = step.partition(" ")
        if step == "turn":
            self._turn()
        elif step == "reload":
            if self.masters.reloading:
                return False
            self.masters.reload(SETTINGS, adopted=False, finish=lambda _: None)
        else:
            attribute = {"is ready": "says_ready", "dies": "dead", "is stuck": "stuck"}[what]
            concerned = [each for each in self.all if not (each.ready if what == "is ready" else each.dead)]
            if len(concerned) < (1 if which == "first" else 2):
                return False
            one = concerned[0 if which == "first" else -1]
            if getattr(one, attribute):
                return False
            setattr(one, attribute, True)
        return True

    @property
    def all(self) -> list[Generation]:
        """The masters that there are."""
        return [each for each in self._started if not each.removed]

    def _turn(self) -> None:
        self.now += 10.0  # whatever is due, is due now
        self.masters.read_messages(self.now)
        self.masters.reap(self.now)
        self.check()
        self.masters.check_heartbeats(self.now)
        self.check()
        if self.masters.start_at is not None and self.now >= self.masters.start_at:
            self.masters.start(self.now)
        self.check()

    def check(self) -> None:
        accepting = [each for each in self.all if each.ready and not each.retiring]
        starting = [each for each in self.all if not each.ready and not each.retiring]
        assert len(accepting) <= 1
        assert len(starting) <= 2
        assert accepting or starting or self.masters.start_at is not None, "nobody accepts, and nobody ever will"


STEPS = ("reload", "first is ready", "last is ready", "first dies", "last dies", "turn")
WITH_STUCK_ONES = ("reload", "first is ready", "last is ready", "first is stuck", "last is stuck", "turn")


@pytest.mark.parametrize("all_steps", [STEPS, WITH_STUCK_ONES], ids=["death", "stuck"])
@pytest.mark.parametrize("first", ["reload", "first dies", "first is stuck"])
def test_whatever_happens_somebody_accepts_or_will(first: str, all_steps: tuple[str, ...], log: Log) -> None:
    known: tuple[str, ...] = ()  # the beginning of stories that end as a shorter one does
    for steps in itertools.product(all_steps, repeat=5):
        if known and steps[: len(known)] == known:
            continue
        story = Story(log)
        try:
            taken = story.take_with_a_turn((first, *steps))
            assert taken, "the first step has an effect"
            known = steps[:taken] if taken <= len(steps) else ()
        except AssertionError as error:
            raise AssertionError(" - ".join((first, *steps))) from error
        finally:
            story.masters.shut_down(control.STOP)


@pytest.mark.parametrize("last", ["first is ready", "last is ready", "first dies", "last dies"])
def test_whoever_starts_while_the_server_is_told_to_end_gets_the_word_and_no_other(last: str, log: Log) -> None:
    for steps in itertools.product(STEPS, repeat=3):
        story = Story(log)
        story.take_with_a_turn(steps[:-1])
        story.take(steps[-1])
        story.masters.shut_down(control.DRAIN)
        told = list(story.all)
        story.take(last)
        story.masters.read_messages(story.now)
        story.masters.reap(story.now)
        assert [each.words[-1] for each in told] == [control.DRAIN] * len(told)
        assert story.masters.start_at is None


def test_the_first_master_that_dies_is_replaced_at_once_and_the_next_ones_later(log: Log) -> None:
    story = Story(log)
    masters = story.masters
    now = 11.0
    delays = []
    for age in (1.0, *[0.0] * 7, 10.5):
        now += age
        story.all[-1].dead = True
        masters.reap(now)
        assert masters.start_at is not None
        delays.append(masters.start_at - now)
        now = masters.start_at
        masters.start(now)
    # The last one lived for more than ten seconds.
    assert delays == pytest.approx([0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 0])
    masters.shut_down(control.STOP)
