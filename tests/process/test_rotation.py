"""The log file is reopened after a rotation: by signal, by an operator's word, and at every reload."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.errors import OperatorError
from forkserver.supervisor import operator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 20.0
PROGRAM = """
import functools, sys
from forkserver.front import configfile, logfile
from forkserver.supervisor import generation, supervise
config, log, gate = sys.argv[1:]
generation.COMMAND = (sys.executable, "-c", GATE, gate)
load = functools.partial(configfile.load, config, {})
sys.exit(supervise.main(load(), load, reopen_log=functools.partial(logfile.reopen, log)))
"""
# Where there is a gate, masters go on only once somebody has opened it.
GATE = """
import os, sys
from forkserver.master import __main__
if os.path.exists(sys.argv[1]):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
sys.exit(__main__.main(int(sys.argv[2])))
"""


class Logging:
    """A server with a log file, ``path``, in the directory ``place``."""

    def __init__(self, place: Path, root: Path) -> None:
        self.place = place
        self.path = place / "log"
        self.gate = place.parent / "gate"
        self._config = place.parent / "forkserver.toml"
        self._root = root
        self.reader_fd: int | None = None
        self.configure("")
        code = f"GATE = {GATE!r}\n{PROGRAM}"
        with self.path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, str(self._config), str(self.path), str(self.gate)],
                env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
                stderr=log,
            )
        self.wait_for(self.path, " ready ")

    def configure(self, text: str) -> None:
        self._config.write_text(f'root = "{self._root}"\nport = 0\n{text}')

    def rotate(self) -> Path:
        """Rename the log; returns the path of the old file."""
        old = self.path.with_name(f"log.{time.monotonic_ns()}")
        self.path.rename(old)
        return old

    def ask(self, word: bytes) -> str:
        return operator.ask(self.process.pid, word, PATIENCE_S)

    def wait_for(self, path: Path, text: str, count: int = 1) -> str:
        """Wait until a file has ``count`` lines with ``text``; returns the last of them."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            lines = path.read_text().splitlines() if path.exists() else []
            found = [line for line in lines if text in line]
            if len(found) >= count:
                return found[-1]
            assert time.monotonic() < deadline, "\n".join([f"no {text!r} in {path}:", *lines])
            time.sleep(0.01)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def server(tmp_path: Path, root: Path) -> Iterator[Logging]:
    place = tmp_path / "log"
    place.mkdir()
    made = Logging(place, root)
    try:
        yield made
        if made.process.poll() is None:
            made.stop()
    finally:
        if made.reader_fd is not None:
            os.close(made.reader_fd)
        made.process.kill()
        made.process.wait()


def by_signal(number: signal.Signals) -> Callable[[Logging], object]:
    return lambda server: server.process.send_signal(number)


WAYS = pytest.mark.parametrize(
    "way",
    [
        by_signal(signal.SIGUSR1),
        by_signal(signal.SIGHUP),
        lambda server: server.ask(operator.REOPEN),
        lambda server: server.ask(operator.RELOAD),
    ],
    ids=["SIGUSR1", "SIGHUP", "reopen", "reload"],
)


@WAYS
@pytest.mark.parametrize("create", [True, False], ids=["created", "missing"])
def test_after_a_rotation_all_processes_write_to_the_new_file(server, way, create):
    old = server.rotate()
    if create:
        server.path.touch(0o640)
    way(server)
    assert " generation=2 " in server.wait_for(server.path, " ready ")
    assert " confined " in server.path.read_text(), "the new master's line"
    assert server.path.stat().st_mode & 0o777 == 0o640
    server.stop()
    assert server.path.read_text().endswith(" stopped\n")
    verbs = [line.split()[2] for line in old.read_text().splitlines()]
    assert [verb for verb in verbs if verb != "warning"] == ["confined", "ready"]


def test_where_nothing_was_rotated_nothing_happens(server):
    server.process.send_signal(signal.SIGUSR1)
    assert server.ask(operator.REOPEN) == ""
    assert server.path.read_text().count(" ready ") == 1


def test_two_signals_for_one_rotation_make_one_generation(server):
    server.rotate()
    server.process.send_signal(signal.SIGUSR1)
    server.wait_for(server.path, " confined ")
    server.process.send_signal(signal.SIGUSR1)
    assert server.ask(operator.REOPEN) == ""
    assert server.path.read_text().count(" ready ") == 1


@WAYS
def test_settings_that_are_wrong_do_not_keep_the_log_from_being_reopened(server, way):
    server.configure("prot = 1\n")
    old = server.rotate()
    try:
        way(server)
    except OperatorError as error:
        assert "did you mean port?" in str(error)
    assert " generation=2 " in server.wait_for(server.path, " ready ")
    assert "reload-failed" not in old.read_text()


def test_a_reopening_does_not_read_the_settings(server):
    first = server.wait_for(server.path, " ready ")
    server.configure("max_children = 5\n")
    server.rotate()
    server.ask(operator.REOPEN)
    address = re.search(r" address=\S+", first)
    assert address
    assert address[0] in server.wait_for(server.path, " ready "), "port 0 is not bound anew"


@pytest.mark.parametrize("word", [operator.REOPEN, operator.RELOAD])
def test_a_rotation_in_the_middle_of_a_reload_is_heeded_after_it(server, word):
    os.mkfifo(server.gate)
    server.process.send_signal(signal.SIGHUP)
    children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    deadline = time.monotonic() + PATIENCE_S
    while len(Path(children).read_text().split()) < 2:
        assert time.monotonic() < deadline
    old = server.rotate()
    with concurrent.futures.ThreadPoolExecutor() as asking:
        server.process.send_signal(signal.SIGUSR1)
        answer = asking.submit(server.ask, word)
        with pytest.raises(TimeoutError):
            answer.result(0.2)
        gate_fd = os.open(server.gate, os.O_WRONLY)
        server.gate.unlink()
        os.close(gate_fd)
        assert answer.result(PATIENCE_S) == ""
    assert " generation=2 " in server.wait_for(old, " ready ", 2)
    assert " generation=3 " in server.wait_for(server.path, " ready ")
    assert server.ask(operator.REOPEN) == ""
    assert server.path.read_text().count(" ready ") == 1


def make_directory(server: Logging) -> str:
    server.path.mkdir()
    return "Is a directory"


def make_link(server: Logging) -> str:
    server.path.symlink_to("elsewhere")
    return "it is a symbolic link"


def make_pipe(server: Logging) -> str:
    os.mkfifo(server.path)
    server.reader_fd = os.open(server.path, os.O_RDONLY | os.O_NONBLOCK)  # without a reader it could not be opened
    return "it is not a regular file"


def take_directory(server: Logging) -> str:
    server.place.rename(server.place.with_name("gone"))
    return "No such file or directory"


@pytest.mark.parametrize("obstacle", [make_directory, make_link, make_pipe, take_directory])
def test_a_file_that_cannot_be_reopened_leaves_the_old_one_and_a_warning(server, obstacle):
    old = server.rotate()
    reason = obstacle(server)
    if not server.place.exists():
        old = server.place.with_name("gone") / old.name
    complaint = f"--log-file: {server.path}: cannot reopen it: {reason}; "
    with pytest.raises(OperatorError, match=re.escape(complaint)):
        server.ask(operator.REOPEN)
    assert old.read_text().count(complaint) == 1
    assert server.ask(operator.RELOAD).startswith(complaint)
    assert old.read_text().count(complaint) == 2
    assert " generation=2 " in server.wait_for(old, " ready ", 2)
    server.configure("prot = 1\n")
    with pytest.raises(OperatorError, match=f"did you mean port\\?.*{re.escape(complaint)}"):
        server.ask(operator.RELOAD)
    server.stop()
    assert old.read_text().count(complaint) == 3
    assert old.read_text().endswith(" stopped\n")


def test_a_rotation_while_the_server_drains_is_heeded_by_the_supervisor(server):
    ready = server.wait_for(server.path, " ready ")
    master = re.search(r" master_pid=(\d+)", ready)
    assert master
    os.kill(int(master[1]), signal.SIGSTOP)  # so that it takes its time
    server.process.send_signal(signal.SIGTERM)
    server.wait_for(server.path, " drain ")
    server.rotate()
    assert server.ask(operator.REOPEN) == ""
    os.kill(int(master[1]), signal.SIGCONT)
    assert server.process.wait(PATIENCE_S) == 0
    assert server.path.read_text().endswith(" stopped\n")


def test_without_a_log_file_a_signal_does_nothing_and_who_asks_learns_it(serve):
    server = serve()
    server.process.send_signal(signal.SIGUSR1)
    with pytest.raises(OperatorError, match="this server has no log file to reopen; start it with --log-file"):
        operator.ask(server.process.pid, operator.REOPEN, PATIENCE_S)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    assert len(server.log(" ready ")) == 1
