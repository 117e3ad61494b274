"""A daemon that logs to syslog(3): what every one of its processes says there, and how it lives without a logger."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import struct
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.errors import OperatorError
from forkserver.front import cli, daemoncontrol, pidfile
from forkserver.front.daemoncontrol import DaemonState, StartOutcome
from forkserver.front.daemonoptions import DaemonOptions
from forkserver.supervisor import logsocket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 20.0
OTHER = b"<13>other: line"
LINE = re.compile(rb"<(\d+)>forkserver\[(\d+)\]: ([a-z-]+)((?: [a-z_]+=(?:\"[ !#-~]*\"|[!-~]+))*)")
# The daemon's program, but for another place of the logger.
PROGRAM = """
import sys
sys.path.append({repository!r})
from forkserver.supervisor import logsocket
logsocket.PATH = {path!r}
from forkserver.front import daemonize
sys.exit(daemonize.main(int(sys.argv[1]), sys.argv[2]))
"""


class Logger:
    """Stands for the system's. ``lines`` is what it was sent so far: priority, PID, verb, fields."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.lines: list[tuple[int, int, str, str]] = []
        self.open()

    def open(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(PATIENCE_S)
        self.socket.bind(self._path)

    def close(self) -> None:
        """As one that ends: its name may stay, and leads nowhere."""
        self.socket.close()

    def read(self) -> tuple[int, int, str, str]:
        """The next line, which is well formed, and of whom the kernel says that it is."""
        data, ancillary, _, _ = self.socket.recvmsg(65536, socket.CMSG_SPACE(12))
        found = LINE.fullmatch(data)
        assert found, data
        line = int(found[1]), int(found[2]), found[3].decode(), found[4].decode() + " "
        assert struct.unpack("3i", ancillary[0][2])[0] == line[1], data
        self.lines.append(line)
        return line

    def skip(self, text: bytes) -> int:
        """Read what is not the daemon's, until none is left; returns how many there were."""
        count = 0
        # The socket has a timeout, so recv(2) would wait for the next line in spite of MSG_DONTWAIT.
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        while poll.poll(0) and self.socket.recv(65536, socket.MSG_PEEK) == text:
            self.socket.recv(65536)
            count += 1
        return count

    def wait_for(self, verb: str, text: str = "", writer: int | None = None) -> tuple[int, int, str, str]:
        """Read until such a line comes, with any verb if that is empty."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            line = self.read()
            if verb in ("", line[2]) and text in line[3] and writer in (None, line[1]):
                return line
        raise AssertionError(f"no {verb} in {self.lines}")


def fields(line: tuple[int, int, str, str]) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line[3]))


class Daemon:
    """A daemon that serves; ``pid_path`` is its PID file."""

    def __init__(self, pid_path: str, options: DaemonOptions) -> None:
        self.pid_path = pid_path
        result = daemoncontrol.start(pid_path, options)
        assert result.outcome is StartOutcome.STARTED, result
        found = re.fullmatch(r"127\.0\.0\.1:(\d+)", result.addresses)
        assert found, result
        self.pid, self.port = result.pid, int(found[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE_S)

    def ask(self, request: bytes = b"GET /hello.txt\n") -> int:
        """PID of the child that answered, in full."""
        with self.connect() as connection, connection.makefile("rb") as file:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            answer = file.read()
        found = re.search(rb" pid=(\d+) ", answer)
        assert found
        assert answer.endswith(b"FS1 END ok\n") or b" 404 " in answer
        return int(found[1])

    def stop(self) -> None:
        assert daemoncontrol.stop(self.pid_path, PATIENCE_S) == self.pid


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Stands for /dev/log. Not beneath tmp_path, for a socket's name must be short."""
    with tempfile.TemporaryDirectory() as place:
        monkeypatch.setattr(logsocket, "PATH", f"{place}/log")
        yield f"{place}/log"


@pytest.fixture
def logger(path: str) -> Iterator[Logger]:
    made = Logger(path)
    yield made
    made.close()


@pytest.fixture
def order(root, tmp_path, path, monkeypatch) -> Iterator[Callable[..., tuple[str, DaemonOptions]]]:
    """``order(**options)``: what to start. Whatever the test did, no daemon is left."""
    program = tmp_path / "daemon.py"
    program.write_text(PROGRAM.format(repository=str(REPOSITORY), path=path))
    monkeypatch.setattr(daemoncontrol, "_PROGRAM", str(program))
    pid_path = str(tmp_path / "forkserver.pid")

    def write(**options: object) -> tuple[str, DaemonOptions]:
        settings = {"root": str(root), "port": 0, **options}
        return pid_path, DaemonOptions(None, settings, str(tmp_path), None, syslog=True, user=None, group=None)

    yield write
    with contextlib.suppress(ProcessLookupError):
        pid = pidfile.holder(pid_path)
        if pid is not None:
            daemoncontrol.stop(pid_path, 0)


def test_every_process_sends_its_lines_with_the_right_priority_and_nobody_can_forge_one(logger, order):
    daemon = Daemon(*order())
    ready = logger.wait_for("ready")
    assert ready[:2] == (30, daemon.pid)
    found = re.search(r" master_pid=(\d+) ", ready[3])
    assert found
    master = int(found[1])
    child = daemon.ask(b"GET /hello.txt\nGET /%0a<0>bug%1b[31m\n")
    assert logger.wait_for("end", " outcome=ok ")[:2] == (30, child)
    assert " path=/%0A%3C0%3Ebug%1B%5B31m " in logger.wait_for("end", " outcome=not-found ")[3]
    assert logger.wait_for("receipt", f" pid={child} ")[:2] == (30, master)
    with daemon.connect() as connection:
        connection.sendall(b"PING\n")
        pid = logger.wait_for("end")[1]
        os.kill(pid, signal.SIGKILL)
        assert logger.wait_for("died", f" pid={pid} ")[:2] == (28, master)
    os.kill(daemon.pid, signal.SIGHUP)
    assert " generation=2 " in logger.wait_for("ready")[3]
    daemon.stop()
    assert logger.wait_for("drain")[:2] == (30, daemon.pid)
    assert logger.wait_for("stopped")[:2] == (30, daemon.pid)
    told = {(line[0], line[2]) for line in logger.lines}
    expected = {(30, verb) for verb in ("confined", "ready", "end", "receipt", "drain", "stopped")} | {(28, "died")}
    assert told - {(28, "warning")} == expected


@pytest.mark.parametrize("name_left", [True, False])
def test_without_a_logger_it_serves_on_and_with_the_next_one_its_lines_come_back(logger, order, path, name_left):
    daemon = Daemon(*order())
    logger.wait_for("ready")
    logger.close()
    if not name_left:
        os.unlink(path)
    for _ in range(3):
        daemon.ask()
    if name_left:
        os.unlink(path)
    logger.open()
    # Connected again within a second or so, and until then lines are lost, whoever would have written them.
    logger.socket.settimeout(0.1)  # no line is no failure here
    deadline = time.monotonic() + PATIENCE_S
    found = False
    while not found:
        assert time.monotonic() < deadline
        daemon.ask()
        with contextlib.suppress(TimeoutError):
            logger.wait_for("receipt", " lines_dropped=")
            found = True
    logger.socket.settimeout(PATIENCE_S)  # as it was
    child = daemon.ask()
    logger.wait_for("receipt", f" pid={child} ")
    daemon.stop()
    logger.wait_for("stopped")


def test_a_daemon_whose_logger_is_gone_ends_in_order(logger, order):
    daemon = Daemon(*order())
    logger.close()
    daemon.ask()
    daemon.stop()
    assert daemoncontrol.status(daemon.pid_path).state is DaemonState.NOT_RUNNING


def test_a_logger_that_does_not_read_does_not_stop_the_service(logger, order):
    # With one child at a time the master has reaped, and told of, all those before it.
    daemon = Daemon(*order(max_children=1))
    master = int(fields(logger.wait_for("ready"))["master_pid"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.connect(logsocket.PATH)
        room = select.poll()
        room.register(other, select.POLLOUT)
        while room.poll(0):
            other.send(OTHER)
        for _ in range(5):
            daemon.ask()
        assert logger.skip(OTHER) > 1
    daemon.ask()
    # With which line it is told depends on how far the master was when there was room again.
    assert int(fields(logger.wait_for("", " lines_dropped=", master))["lines_dropped"]) >= 3
    daemon.stop()
    logger.wait_for("stopped")


def test_a_complaint_after_the_command_has_its_answer_is_a_well_formed_line_too(logger, order):
    with socket.create_server(("127.0.0.1", 0)) as other:
        result = daemoncontrol.start(*order(port=other.getsockname()[1]))
    assert (result.outcome, result.exit_status) == (StartOutcome.FAILED, 78)
    assert "another process listens there" in result.complaint
    data = logger.socket.recv(65536)  # words for people, and no verb
    assert re.fullmatch(rb"<27>forkserver\[\d+\]: [ -~]*another process listens there[ -~]*", data)


def test_where_there_is_no_logger_nothing_is_started_and_nothing_that_runs_is_stopped(logger, order, path, capsys):
    pid_path, options = order()
    daemon = Daemon(pid_path, options)
    logger.close()
    restart = ["restart", "--syslog", "--pid-file", pid_path]
    assert cli.run(restart) == 78
    complaint = f"--syslog: {path}: cannot reach the system's logger: "
    assert capsys.readouterr().err.startswith(f"forkserver: {complaint}Connection refused")
    os.unlink(path)
    assert cli.run(restart) == 78
    assert "No such file or directory; start one " in capsys.readouterr().err
    status = daemoncontrol.status(pid_path)
    assert (status.state, status.pid) == (DaemonState.RUNNING, daemon.pid)
    daemon.stop()
    result = daemoncontrol.start(pid_path, options)
    assert (result.outcome, result.exit_status) == (StartOutcome.FAILED, 78)
    assert result.complaint.startswith(complaint)


def test_lines_of_another_form_are_refused_at_the_start_and_by_a_reload(logger, root, tmp_path, order):
    with pytest.raises(OperatorError, match="log_format: json: --syslog needs lines in the form syslog; leave it"):
        order(log_format="json")[1].load()
    config = tmp_path / "forkserver.toml"
    config.write_text(f"root = '{root}'\nport = 0\n")
    pid_path, options = order()
    daemon = Daemon(pid_path, options._replace(config=str(config), settings={}))
    config.write_text(f"root = '{root}'\nport = 0\nlog_format = 'json'\n")
    os.kill(daemon.pid, signal.SIGHUP)
    assert "log_format: json: --syslog needs" in logger.wait_for("reload-failed")[3]
    daemon.stop()


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_a_file_and_syslog_at_once_are_refused(verb, root, tmp_path, capsys):
    options = [
        "--root",
        str(root),
        "--pid-file",
        str(tmp_path / "pid"),
        "--log-file",
        str(tmp_path / "log"),
        "--syslog",
    ]
    assert cli.run([verb, *options]) == 2
    assert "Error: --syslog and --log-file exclude each other; leave one out\n" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()
