"""A long fetch cut short again and again, in every way there is to lose it: it goes on, and little comes twice.

With ``FORKSERVER_LONG`` in the environment at full length, a GiB and twenty faults of each kind; ``pytest -rP`` shows
how much was moved. The tenth that may come twice is of what ``fsget`` took from its connections. What left the server
is more by what stood in their buffers when they were lost, and what crossed the network is between the two: a client
that is killed loses its receive buffer, too. That is bounded by what is asked for ahead.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.client.local.partial import PIECE_BYTES, STEP_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONG = "FORKSERVER_LONG" in os.environ
SIZE, FAULTS = (1 << 30, 20) if LONG else (1 << 28, 5)
MOST_MOVED = 1.1 * SIZE
ASKED_PIECES = 2  # most that are asked for and not here
MIB = 1 << 20
SEED = 2057
ESTABLISHED = "01"  # in /proc/net/tcp

pytestmark = pytest.mark.timeout(600 if LONG else 120)


def points(fault: str) -> list[int]:
    """How many bytes have come when the faults happen. None is so late that the fetch could be over before."""
    return sorted(random.Random(f"{SEED} {fault}").sample(range(SIZE * 9 // 10), FAULTS))


class Fetch:
    """The file ``f`` on its way, in as many runs of ``fsget`` as it takes.

    What has come is known by proc_pid_io(5): a run writes all of it, and beside it no more than some KiB.
    """

    def __init__(self, begin, place: Path) -> None:
        self._begin = begin
        self._place = place
        self._came_before = 0

    def start(self, server, *options: str, **how) -> None:
        self._run = self._begin(server, *options, "f", **how)
        self.pid: int = self._run.process.pid
        # Opened now it can be read when the process is a zombie, and who reads it is not root.
        self._figures = Path(f"/proc/{self.pid}/io").open(encoding="ascii")  # noqa: SIM115 - see close

    @property
    def moved(self) -> int:
        """How many bytes have come in all runs."""
        return self._came_before + (0 if self._figures.closed else self.figure("wchar"))

    @property
    def verified(self) -> int:
        """How many pieces are here, and noted."""
        return len(re.findall(rb"(?m)^\d+ .*\n", (self._place / ".fsget-f.sums").read_bytes()))

    def figure(self, name: str) -> int:
        """One of the present run's."""
        self._figures.seek(0)
        return int(dict(line.split(": ") for line in self._figures)[name])

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for what happens while the run goes on."""
        while not condition():
            self._assert_running(what)
            time.sleep(0.001)
        self._assert_running(what)

    def wait_for(self, moved: int) -> None:
        self.wait_until(lambda: self.moved >= moved, f"{moved} bytes had come")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """For what takes longer than the rest of the fetch."""
        os.kill(self.pid, signal.SIGSTOP)
        yield
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> int:
        """How many bytes had come to this run."""
        os.kill(self.pid, signal.SIGKILL)
        came = self._end()
        assert self._run.result().status == -signal.SIGKILL, "it ended before it was killed"
        return came

    def finish(self):
        """The result of the last run."""
        came = self._end()
        result = self._run.result()
        assert (result.status, result.err) == (0, "")
        assert os.listdir(self._place) == ["f"]
        if result.out.startswith("{"):
            assert 0 <= came - result.objects[0]["received"] < MIB, "what is measured is what comes"
        return result

    def close(self) -> None:
        self._figures.close()

    def _end(self) -> int:
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        came = self.figure("wchar")
        self._came_before += came
        self._figures.close()
        return came

    def _assert_running(self, what: str) -> None:
        assert self._run.process.poll() is None, f"it ended before {what}"


@pytest.fixture
def fetch(begin, place) -> Iterator[Fetch]:
    """A fetch, with nothing of it left on the disk: pytest keeps the directories of the last three sessions."""
    fetch = Fetch(begin, place)
    yield fetch
    fetch.close()
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Iterator[Path]:
    """A file of which no two pieces are alike."""
    path: Path = tmp_path_factory.mktemp("source") / "f"
    generator = random.Random(SEED)
    with path.open("wb") as file:
        for _ in range(SIZE // MIB):
            file.write(generator.randbytes(MIB))
    yield path
    path.unlink()


@pytest.fixture
def long_file(source, root) -> Iterator[Path]:
    """It is in the server's root."""
    path: Path = root / "f"
    path.hardlink_to(source)
    yield path
    path.unlink()


@pytest.fixture
def came_whole(fetch, place, long_file) -> Callable[..., None]:
    """What every fetch comes to, whatever happened on the way."""
    began = time.monotonic()

    def check(server, **others: int) -> None:
        given = left(server)
        moved = {"came_to_fsget": fetch.moved, "left_the_server": given} | others
        figures = [f"{name} {count / SIZE:.4f}" for name, count in moved.items()]
        print(f"of the size: {', '.join(figures)}; {time.monotonic() - began:.1f} s")  # noqa: T201 - for people
        assert filecmp.cmp(place / "f", long_file, shallow=False)
        assert SIZE <= fetch.moved <= MOST_MOVED
        assert given <= SIZE + FAULTS * ASKED_PIECES * PIECE_BYTES

    return check


def left(server) -> int:
    """How many bytes the server's children gave to their sockets, but for an orphan that was killed."""
    server.quiet()
    count: Counter[int] = Counter()
    for line in server.log(" request=GET "):
        pid, sent = re.findall(r" (?:pid|sent)=(\d+)", line)
        count[int(pid)] += int(sent)
    # One that was killed wrote no line of its last request.
    for line in server.log(" died pid="):
        pid, sent = re.findall(r" (?:pid|sent)=(\d+)", line)
        count[int(pid)] = int(sent)
    return count.total()


@pytest.mark.usefixtures("long_file")
def test_whenever_the_client_is_killed_the_next_run_goes_on(serve, fetch, came_whole):
    server = serve()
    for point in points("client"):
        fetch.start(server, "--json")
        fetch.wait_for(point)
        fetch.kill()
    fetch.start(server, "--json")
    assert fetch.finish().objects[0]["received"] < SIZE
    came_whole(server)


@pytest.mark.usefixtures("long_file")
def test_whenever_the_child_is_killed_the_same_run_goes_on_with_another(serve, fetch, came_whole):
    server = serve()
    fetch.start(server, "--json")
    for number, point in enumerate(points("child"), 1):
        fetch.wait_for(point)
        fetch.wait_until(server.children, "there was another child")
        os.kill(server.children()[0], signal.SIGKILL)
        server.wait_for(" died pid=", number)
    fetch.finish()
    came_whole(server)


@pytest.mark.usefixtures("long_file")
def test_whenever_the_master_is_killed_the_fetch_goes_on_and_nothing_comes_twice(serve, fetch, came_whole):
    server = serve()
    fetch.start(server, "--json")
    for number, point in enumerate(points("master"), 1):
        fetch.wait_for(point)
        with fetch.paused():
            os.kill(server.master_pid, signal.SIGKILL)
            server.wait_for(" ready ", number + 1)
    told = fetch.finish().objects[0]
    assert told["received"] == SIZE
    assert len(told["pids"]) == 1
    came_whole(server)


def test_when_master_and_child_are_killed_at_once_the_same_run_goes_on_with_the_next(serve, fetch, came_whole):
    server = serve()
    fetch.start(server, "--json")
    fetch.wait_for(SIZE // 2 + PIECE_BYTES // 2)
    for pid in (server.master_pid, *server.children()):
        os.kill(pid, signal.SIGKILL)
    assert len(fetch.finish().objects[0]["pids"]) == 2
    came_whole(server)
    assert len(server.log(" orphan pid=")) == 1


class Cable:
    """Two network namespaces, ``near`` and ``far``, and a pair of veth(4) between them, both ends called ``cable``."""

    def __init__(self) -> None:
        self.near, self.far = (f"forkserver-{os.getpid()}-{end}" for end in ("near", "far"))

    def lay(self) -> None:
        ip("netns", "add", self.near)
        ip("netns", "add", self.far)
        ip("-n", self.near, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", self.far)
        for name, address in ((self.near, "192.0.2.1/24"), (self.far, "192.0.2.2/24")):
            ip("-n", name, "address", "add", address, "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")

    def remove(self) -> None:
        """Whatever there is of it."""
        for name in (self.near, self.far):
            subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)

    def set(self, state: str) -> None:
        """Plug it in, ``up``, or out, ``down``, at the far end: at the near one there is only silence."""
        ip("-n", self.far, "link", "set", "cable", state)

    @property
    def carried(self) -> int:
        """How many bytes came out at the near end, headers and what TCP sent again included."""
        counts: int = json.loads(ip("-n", self.near, "-s", "-j", "link", "show", "cable"))[0]["stats64"]["rx"]["bytes"]
        return counts


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture
def cable() -> Iterator[Cable]:
    if os.geteuid() != 0:
        pytest.skip("only root can make a network namespace")
    if not shutil.which("ip"):
        pytest.skip("not installed: ip")
    cable = Cable()
    try:
        cable.lay()
        yield cable
    finally:
        cable.remove()


def connected(pid: int) -> bool:
    """Whether there is an established connection in the network of a process, by proc_pid_net(5)."""
    lines = Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return any(line.split()[3] == ESTABLISHED for line in lines)


@pytest.mark.usefixtures("long_file")
def test_whenever_the_network_is_cut_the_same_run_goes_on_when_it_is_there_again(cable, serve, fetch, came_whole):
    server = serve("--bind", "192.0.2.2", prefix=["ip", "netns", "exec", cable.far])
    fetch.start(server, "--json", "--timeout", "0.5", prefix=["ip", "netns", "exec", cable.near])
    for point in points("network"):
        fetch.wait_for(point)
        fetch.wait_until(lambda: connected(fetch.pid), "it was connected again")
        cable.set("down")
        fetch.wait_until(lambda: not connected(fetch.pid), "it noticed")
        cable.set("up")
    fetch.finish()
    came_whole(server, came_out_of_the_cable=cable.carried)
    assert cable.carried <= MOST_MOVED


def test_a_run_killed_while_it_verifies_what_is_here_costs_nothing(serve, fetch, came_whole):
    server = serve()
    fetch.start(server)
    fetch.wait_for(SIZE * 3 // 4)
    fetch.kill()
    here = fetch.verified
    fetch.start(server)
    fetch.wait_until(lambda: fetch.figure("rchar") > SIZE // 16, "it had read a part of the file")
    assert fetch.kill() < MIB, "nothing had come, it was still reading"
    assert fetch.verified == here
    fetch.start(server, "--json")
    received = fetch.finish().objects[0]["received"]
    assert SIZE - (here + 1) * PIECE_BYTES < received <= SIZE - here * PIECE_BYTES
    came_whole(server)


@pytest.mark.usefixtures("long_file")
def test_a_killed_run_with_many_connections_loses_little_of_what_was_on_its_way(serve, fetch, came_whole):
    server = serve()
    connections = 8
    fetch.start(server, "-j", str(connections))
    fetch.wait_for(SIZE // 3)
    came = fetch.kill()
    fetch.start(server, "-j", str(connections), "--json")
    kept = fetch.finish().objects[0]["kept"]
    # Of each connection what is not noted yet, and at most a part of 256 KiB that was just being written.
    assert came - kept <= connections * (STEP_BYTES + MIB // 4)
    came_whole(server)


def test_two_runs_killed_in_the_same_piece_leave_the_pieces_before_it(serve, root, relay, fetch, place):
    content = os.urandom(4 * PIECE_BYTES)
    (root / "f").write_bytes(content)
    held = relay(serve(), hold_bytes=2 * PIECE_BYTES + 2 * MIB)
    fetch.start(held)
    fetch.wait_for(2 * PIECE_BYTES + MIB)
    fetch.kill()
    assert fetch.verified == 2
    held.hold_bytes = 2 * MIB
    fetch.start(held)
    fetch.wait_for(fetch.moved + MIB)
    assert fetch.kill() < PIECE_BYTES
    assert fetch.verified == 2
    held.release()
    fetch.start(held, "--json")
    received = fetch.finish().objects[0]["received"]
    assert received <= 2 * PIECE_BYTES - MIB, "what had come of the third piece was not lost"
    assert (place / "f").read_bytes() == content


def test_a_file_replaced_after_a_run_was_killed_is_begun_anew_and_the_user_is_told(serve, root, relay, fetch, place):
    (root / "f").write_bytes(os.urandom(3 * PIECE_BYTES))
    held = relay(serve(), hold_bytes=PIECE_BYTES + 2 * MIB)
    fetch.start(held)
    fetch.wait_for(PIECE_BYTES + MIB)
    fetch.kill()
    assert fetch.verified == 1
    content = os.urandom(3 * PIECE_BYTES)
    (root / "new").write_bytes(content)
    (root / "new").rename(root / "f")
    held.release()
    fetch.start(held)
    assert "begun anew, the file on the server has changed" in fetch.finish().out
    assert (place / "f").read_bytes() == content
