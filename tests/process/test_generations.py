"""What generations are told of each other, by a supervisor whose masters the test plays."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

import pytest

from forkserver.errors import OperatorError
from forkserver.ipc import control
from forkserver.ipc.slots import SlotTable
from forkserver.logline import Log
from forkserver.settings import Settings
from forkserver.supervisor import generation, listener
from forkserver.supervisor.generations import Generations

# A master that hands its end of the control channel to the test, and lives.
FAKE_MASTER = """
import os, signal, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as test:
    test.connect(bytes.fromhex(sys.argv[1]))
    socket.send_fds(test, [b"%d" % os.getpid()], [int(sys.argv[2])])
signal.pause()
"""


class Master:
    """The end of one generation's channel that a master has."""

    def __init__(self, channel: socket.socket, pid: int) -> None:
        self.channel = channel
        self.pid = pid
        assert control.MAX_PACKET_BYTES > len(channel.recv(control.MAX_PACKET_BYTES)) > 0, "settings"

    def say(self, *packets: bytes) -> None:
        for packet in packets:
            self.channel.send(packet)

    def told(self) -> list[bytes]:
        """All that was said to it since the last call."""
        packets = []
        while select.select([self.channel], [], [], 0)[0]:
            packets.append(self.channel.recv(control.MAX_PACKET_BYTES))
        return packets


class Masters:
    """The supervisor's generations, and what its loop does with it."""

    def __init__(self, meeting: socket.socket) -> None:
        self._meeting = meeting
        self._masters: list[Master] = []
        self._settings = Settings(port=0)
        self.answers: list[OperatorError | None] = []
        self.generations = Generations(self._settings, listener.bind(self._settings), Log())

    def first(self) -> Master:
        return self.ready(self.starting())

    def next(self, settings: Settings | None = None) -> Master:
        """Reload."""
        return self.ready(self.candidate(settings or self._settings))

    def candidate(self, settings: Settings) -> Master:
        """A reload whose master is not ready yet."""
        self.generations.reload(settings, adopted=False, finish=self.answers.append)
        return self._born()

    def starting(self) -> Master:
        """One that replaces a dead one, and is not ready yet."""
        self.generations.start(0.0)
        return self._born()

    def _born(self) -> Master:
        with self._meeting.accept()[0] as connection:
            pid, fds, _, _ = socket.recv_fds(connection, 100, 1)
        master = Master(socket.socket(fileno=fds[0]), int(pid))
        self._masters.append(master)
        return master

    def ready(self, master: Master) -> Master:
        master.say(control.READY + b"1")
        self.turn()
        return master

    def turn(self) -> None:
        self.generations.read_messages(0.0)
        self.generations.reap(0.0)
        self.generations.send_messages()

    def drain_with_many_peers(self, master: Master) -> dict[str, int]:
        """Have it tell far more than a channel holds at once."""
        peers = {f"10.0.{number // 256}.{number % 256}": number for number in range(1, 30_001)}
        news = set(peers)
        while not control.send_peers(master.channel, news, peers.__getitem__):
            self.turn()
        master.say(b"drain", b"report 30000 0")
        self.turn()
        return peers

    def next_packet_to(self, master: Master) -> bytes:
        """What it is told next; as the supervisor's loop does, wait for room where there is something to tell."""
        packet = master.channel.recv(control.MAX_PACKET_BYTES)
        poll = select.poll()
        self.generations.register(poll)
        if poll.poll(0):
            self.turn()
        return packet

    def kill(self, master: Master) -> None:
        """End it, and have it reaped."""
        os.kill(master.pid, signal.SIGKILL)
        os.waitid(os.P_PID, master.pid, os.WEXITED | os.WNOWAIT)
        self.turn()

    def see_killed(self, master: Master) -> None:
        """Have one reaped that was killed already."""
        while os.path.exists(f"/proc/{master.pid}"):
            self.turn()

    def close(self) -> None:
        self.generations.shut_down(control.STOP)
        self.generations.kill_masters()
        while self.generations:
            self.turn()
        for master in self._masters:
            master.channel.close()


@pytest.fixture
def masters(monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as meeting:
        meeting.bind("")
        meeting.listen()
        program = (sys.executable, "-c", FAKE_MASTER, meeting.getsockname().hex())
        monkeypatch.setattr(generation, "COMMAND", program)
        masters = Masters(meeting)
        yield masters
        masters.close()


def test_the_first_master_accepts_at_once(masters):
    assert masters.first().told() == [b"others 0"]


def test_a_new_master_accepts_only_once_it_knows_what_the_old_one_has_left(masters):
    old = masters.first()
    old.told()
    new = masters.next()
    assert old.told() == [b"yield"]
    old.say(b"report 3 7")  # sent before it knew that it is to drain
    masters.turn()
    assert new.told() == []
    old.say(b"peers 192.0.2.1=2 20010db800000000=1", b"drain", b"report 3 7")
    masters.turn()
    peers, others = new.told()
    assert control.parse_peers(peers) == {"192.0.2.1": 2, "20010db800000000": 1}
    assert others == b"others 3"


def test_a_reload_is_done_when_the_old_master_accepts_no_more(masters):
    old = masters.first()
    masters.next()
    assert masters.answers == []
    old.say(b"drain", b"report 3 7")
    masters.turn()
    assert masters.answers == [None]


def test_two_reloads_in_a_row_are_done_when_both_old_masters_accept_no_more(masters):
    first, second = masters.first(), masters.next()
    masters.next()
    first.say(b"drain", b"report 0 0")
    masters.turn()
    assert masters.answers == []
    masters.kill(second)
    assert masters.answers == [None, None]


def test_what_changes_is_told_and_nothing_else(masters):
    old = masters.first()
    new = masters.next()
    old.say(b"peers a=2 b=1", b"drain", b"report 3 7")
    masters.turn()
    new.told()
    old.say(b"report 3 7")
    masters.turn()
    assert new.told() == []
    old.say(b"peers a=1", b"report 2 7")
    masters.turn()
    assert new.told() == [b"peers a=1", b"others 2"]


def test_generations_that_retire_are_counted_together_and_who_dies_takes_its_count_along(masters):
    first = masters.first()
    second = masters.next()
    first.say(b"peers a=2 b=1", b"drain", b"report 3 7")
    masters.turn()
    third = masters.next()
    second.say(b"peers a=1 c=1", b"drain", b"report 2 2")
    masters.turn()
    peers, others = third.told()
    assert control.parse_peers(peers) == {"a": 3, "b": 1, "c": 1}
    assert others == b"others 5"
    masters.kill(first)
    peers, others = third.told()
    assert control.parse_peers(peers) == {"a": 1, "b": 0}
    assert others == b"others 2"


def test_ten_thousand_peers_reach_a_master_that_is_slow_to_read_before_it_may_accept(masters):
    old = masters.first()
    new = masters.next()
    expected = masters.drain_with_many_peers(old)
    known: dict[str, int] = {}
    while packet := masters.next_packet_to(new):
        if packet == b"others 30000":
            break
        control.merge_peers(known, control.parse_peers(packet))
    assert known == expected
    masters.turn()
    assert new.told() == []


def test_the_word_to_yield_waits_for_room_and_is_not_lost(masters):
    first = masters.first()
    second = masters.next()
    masters.drain_with_many_peers(first)
    masters.next()
    while (packet := masters.next_packet_to(second)) != b"yield":
        assert packet.startswith(control.PEERS)


def test_a_master_takes_the_backlog_of_addresses_that_the_next_one_does_not_have(masters):
    old = masters.first()
    old.told()
    masters.next(Settings(bind=("127.0.0.2",), port=0))
    assert old.told() == [b"drain"]


def test_a_master_that_replaces_a_dead_one_does_not_send_the_next_generation_away(masters):
    first = masters.first()
    candidate = masters.candidate(Settings(port=0))
    masters.kill(first)
    replacement = masters.first()
    assert replacement.told() == [b"others 0"]
    masters.ready(candidate)
    assert replacement.told() == [b"yield"]
    replacement.say(b"drain", b"report 0 0")
    masters.turn()
    assert candidate.told() == [b"others 0"]


def test_a_master_that_starts_when_a_reload_overtakes_it_retires_whenever_it_is_ready(masters):
    first = masters.first()
    candidate = masters.candidate(Settings(port=0))
    masters.kill(first)
    replacement = masters.starting()
    masters.ready(candidate)
    assert candidate.told() == [b"others 0"], "it need not wait for one that never accepted"
    masters.ready(replacement)
    assert (replacement.told(), candidate.told()) == ([b"yield"], [])
    assert masters.generations.serving
    masters.kill(replacement)
    assert masters.generations.start_at is None


def test_a_reload_fails_whose_master_is_ready_and_dies_at_once(masters):
    first = masters.first()
    candidate = masters.candidate(Settings(port=0))
    candidate.say(b"ready 1")
    os.kill(candidate.pid, signal.SIGKILL)
    os.waitid(os.P_PID, candidate.pid, os.WEXITED | os.WNOWAIT)
    masters.generations.reap(0.0)
    assert [str(answer) for answer in masters.answers] == ["the master ended with SIGKILL"]
    masters.turn()
    assert first.told() == [b"others 0"]


def test_a_master_that_starts_while_the_server_is_told_to_end_is_told_so(masters):
    first = masters.first()
    candidate = masters.candidate(Settings(port=0))
    masters.generations.shut_down(control.DRAIN)
    assert str(masters.answers[0]) == "the server is being stopped"
    masters.ready(candidate)
    assert (first.told(), candidate.told()) == ([b"others 0", b"drain"], [b"drain", b"others 0"])


def beat(masters: Masters, times: int) -> None:
    for _ in range(times):
        masters.generations.check_heartbeats(0.0)


NONSENSE = [
    b"report x y",
    b"report 1",
    b"report -1 5",
    b"report " + b"9" * 5000 + b" 1",
    b"report \xd9\xa1 \xd9\xa1",
    b"peers 192.0.2.1",
    b"peers 192.0.2.1=-1",
    b"peers " + b"x" * 60000 + b"=1",
    b"peers \xff=1",
]


@pytest.mark.parametrize("nonsense", NONSENSE, ids=lambda packet: packet[:20].decode("ascii", "replace"))
def test_a_master_that_talks_nonsense_is_killed_and_replaced(masters, capfd, nonsense):
    first = masters.first()
    first.say(nonsense, b"report 1 1")
    masters.turn()
    assert masters.generations.start_at == 0.0
    assert capfd.readouterr().err.count(" master-stuck ") == 1
    masters.see_killed(first)
    masters.first()
    assert "master-stuck" not in capfd.readouterr().err


def test_a_candidate_that_talks_nonsense_fails_its_reload(masters):
    first = masters.first()
    masters.candidate(Settings(port=0)).say(b"report x y")
    masters.turn()
    assert [str(answer) for answer in masters.answers] == ["the master sent what no master sends: report x y"]
    first.told()
    assert masters.generations.serving


def test_a_master_that_has_more_peers_than_there_can_be_is_not_trusted(masters):
    old = masters.first()
    masters.next()
    for first in range(0, control.MAX_PEERS + 1, 2000):
        old.say(b"peers " + b" ".join([b"%x=1" % each for each in range(first, first + 2000)]))
        masters.turn()
    masters.see_killed(old)


def test_a_master_that_talks_without_end_does_not_hold_the_loop(masters):
    first = masters.first()
    for served in range(200):
        first.say(b"report 0 %d" % served)
    masters.generations.read_messages(0.0)
    status = masters.generations.status
    assert ", 63 served" in status
    for _ in range(3):
        masters.generations.read_messages(0.0)
    assert ", 199 served" in masters.generations.status


def test_what_a_master_complains_of_is_fit_for_a_terminal(masters):
    masters.first()
    candidate = masters.candidate(Settings(port=0))
    candidate.say("failed \x1b[2Jr\xf6\xf6t\n".encode())
    masters.kill(candidate)
    assert [str(answer) for answer in masters.answers] == ["\\x1b[2Jr\xf6\xf6t\\n"]


def test_a_reload_fails_whose_master_is_never_ready(masters):
    first = masters.first()
    candidate = masters.candidate(Settings(port=0))
    for _ in range(generation.MAX_STARTING_HEARTBEATS):
        first.say(b"report 0 0")
        masters.turn()
        beat(masters, 1)
    assert masters.answers == []
    beat(masters, 1)
    assert [str(answer) for answer in masters.answers] == [
        "the master was not ready after 30 s; see whether its root answers"
    ]
    masters.see_killed(candidate)
    assert masters.generations.serving
    masters.next()


def test_a_replacement_that_is_never_ready_is_replaced(masters):
    masters.kill(masters.first())
    stopped = masters.starting()
    os.kill(stopped.pid, signal.SIGSTOP)
    beat(masters, generation.MAX_STARTING_HEARTBEATS + 1)
    assert masters.generations.start_at == 0.1
    masters.see_killed(stopped)
    assert masters.first().told() == [b"others 0"]


def test_a_reload_waits_for_an_old_master_that_is_stopped_until_that_counts_as_stuck(masters, capfd):
    old = masters.first()
    os.kill(old.pid, signal.SIGSTOP)
    new = masters.next()
    for _ in range(generation.MAX_MISSED_HEARTBEATS):
        new.say(b"report 0 0")
        masters.turn()
        beat(masters, 1)
    masters.turn()
    assert (new.told(), masters.answers) == ([], [])
    beat(masters, 1)
    masters.generations.send_messages()
    assert (new.told(), masters.answers) == ([b"others 0"], [None])
    assert f"master-stuck pid={old.pid} " in capfd.readouterr().err


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_master_s_table_is_kept_while_the_master_lives(masters):
    master = masters.first()
    before = descriptors()
    table = SlotTable(4)
    socket.send_fds(master.channel, [control.TABLE], [table.fd])
    table.close_file()
    masters.turn()
    ((name, fd),) = masters.generations.tables.items()
    assert name == f"table-{os.getpid()}-1"
    assert os.fstat(fd).st_size > 0
    masters.kill(master)
    assert masters.generations.tables == {}
    del table
    assert descriptors() < before, "neither the table nor the channel is left"


def test_a_table_that_cannot_be_read_is_done_without(masters):
    master = masters.first()
    before = descriptors()
    with open(os.devnull, "rb") as strange:
        socket.send_fds(master.channel, [control.TABLE], [strange.fileno()])
    master.say(control.TABLE)
    masters.turn()
    assert (masters.generations.tables, masters.generations.serving) == ({}, True)
    assert descriptors() == before


def test_descriptors_that_no_master_sends_are_not_kept(masters):
    master = masters.first()
    table = SlotTable(4)
    socket.send_fds(master.channel, [control.TABLE], [table.fd])
    masters.turn()
    before = descriptors()
    socket.send_fds(master.channel, [control.TABLE], [table.fd])
    socket.send_fds(master.channel, [b"report 1 2"], [table.fd])
    socket.send_fds(master.channel, [b"report 1 3"], [table.fd] * 9)
    masters.turn()
    assert ", 3 served" in masters.generations.status
    assert descriptors() == before
    table.close_file()
