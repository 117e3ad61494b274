"""A real server for tests that need one: started, watched through its log, and checked for what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

from tests import prefork

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

REPOSITORY = Path(__file__).parents[1]
# What has passed here passes there: HYPOTHESIS_PROFILE=default or thorough looks for what nobody has met yet.
settings.register_profile("same", derandomize=True, deadline=None)  # tests beside this one may have the processors
settings.register_profile("thorough", max_examples=5000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
# The tests start some two thousand interpreters. Without files of bytecode each would compile the program anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Begun in the background of a shell, the tests inherit that a Ctrl-C is ignored, and what they start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
SHIPPED = PROGRAM = ["-m", prefork.SERVER[0]]
WITHOUT_LANDLOCK = [str(REPOSITORY / "tests" / "without_landlock.py")]
# Every server that the tests start is then one without Landlock; tests/e2e/test_without_landlock.py has one always.
if "WITHOUT_LANDLOCK" in os.environ:
    PROGRAM = WITHOUT_LANDLOCK
PATIENCE_S = 20.0
_LONGEST_ID = 1000


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a long value by its beginning: pytest puts a test's name into the environment, which has a limit."""
    if isinstance(val, str | bytes) and len(val) > _LONGEST_ID:
        return f"{val[:20]!a} of {len(val)}"
    return None


class Server:
    """``forkserver serve`` as a process. ``lines`` is its log so far; waits are for lines, never for time."""

    def __init__(
        self,
        root: Path,
        *options: str,
        prefix: Sequence[str] = (),
        pass_fds: Sequence[int] = (),
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.root = root
        command = ["serve", "--root", str(root), "--port", "0", *options]
        how: dict[str, Any] = {"stderr": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
        if program == SHIPPED:
            self.process = prefork.start(prefork.SERVER, command, prefix=prefix, pass_fds=pass_fds, **how)
        else:
            self.process = subprocess.Popen([*prefix, sys.executable, *program, *command], pass_fds=pass_fds, **how)
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        ready = self.wait_for(" ready ")
        address = re.search(r"address=(\S+)", ready)
        assert address
        host, _, port = address[1].split(",")[0].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)
        self.descriptors = self.count_descriptors()

    @property
    def master_pid(self) -> int:
        """Of the newest generation."""
        return int(re.findall(r"master_pid=(\d+)", "\n".join(self.lines))[-1])

    def wait_for(self, text: str, count: int = 1) -> str:
        """Wait until the log has ``count`` lines with ``text``; returns the last of them."""
        return self.wait_until(lambda: len(self.log(text)) >= count, f"{count} of {text!r}") and self.log(text)[-1]

    def wait_until(self, condition, what: str):
        """Wait for news in the log, or the end of the server, until ``condition`` holds."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while not (result := condition()):
                left = deadline - time.monotonic()
                assert left > 0, f"no {what} in:\n" + "\n".join(self.lines)
                # The log tells most things; that a process is gone, it does not always tell.
                self._news.wait(min(left, 0.02))
        return result

    def log(self, text: str) -> list[str]:
        """The lines so far that hold ``text``."""
        return [line for line in self.lines if text in line]

    def connect(self) -> socket.socket:
        """A connection to the first address."""
        return socket.create_connection((self.host, self.port), PATIENCE_S)

    def ask(self, request: bytes) -> bytes:
        """Send, half-close, and read to end-of-file."""
        with self.connect() as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def children(self) -> list[int]:
        """PIDs of the master's children, zombies among them."""
        return children_of(self.master_pid)

    def count_descriptors(self) -> int:
        """How many descriptors the master has open."""
        return len(os.listdir(f"/proc/{self.master_pid}/fd"))

    def quiet(self, idle: int = 0) -> None:
        """Wait until all children but ``idle`` are reaped, and the master has no descriptor more than at first."""
        self.wait_until(lambda: len(self.children()) <= idle, f"only {idle} children")
        self.wait_until(lambda: self.count_descriptors() <= self.descriptors, "as few descriptors as at first")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask the server to end; returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        assert self.process.stderr
        self.process.stderr.close()
        return status

    def destroy(self) -> None:
        """End whatever is left, without ceremony."""
        family = [self.process.pid, *descendants_of(self.process.pid)]
        for pid in family:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.stop()

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            with self._news:
                self.lines.append(line.decode("ascii").rstrip("\n"))
                self._news.notify_all()


@contextlib.contextmanager
def swapping(directory: Path) -> Iterator[None]:
    """A process that makes ``swap`` what ``real`` is and what ``link`` is in turns, as fast as it can."""
    pid = os.fork()
    if not pid:
        os.chdir(directory)
        while True:
            os.rename("real", "swap")
            os.rename("swap", "real")
            os.rename("link", "swap")
            os.rename("swap", "link")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def read_all(connection: socket.socket) -> bytes:
    """Everything until end-of-file."""
    pieces = []
    while piece := connection.recv(1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def children_of(pid: int) -> list[int]:
    """PIDs of a process's children, zombies among them, by /proc/PID/task/TID/children, proc(5)."""
    before, found = None, None
    # A child that is reaped during the reading may hide another.
    while found is None or found != before:
        before = found
        try:
            lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        except (FileNotFoundError, ProcessLookupError):
            return []
        found = [int(child) for children in lists for child in children.split()]
    return found


def descendants_of(pid: int) -> list[int]:
    """Children, and theirs."""
    found = children_of(pid)
    for child in list(found):
        found += descendants_of(child)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory to serve."""
    path = tmp_path / "root"
    path.mkdir()
    (path / "hello.txt").write_bytes(b"Hello, world\n")
    return path


@contextlib.contextmanager
def servers_in(root: Path):
    """Start servers: each must end in order, with status 0, and leave no process behind."""
    servers: list[Server] = []

    def start(*options: str, **how: Any) -> Server:
        servers.append(Server(root, *options, **how))
        return servers[-1]

    try:
        yield start
        for server in servers:
            family = descendants_of(server.process.pid)
            if server.process.poll() is None:
                assert server.stop() == 0, "\n".join(server.lines)
            assert not [pid for pid in family if Path(f"/proc/{pid}").exists()], "\n".join(server.lines)
            assert not server.log(" bug "), "\n".join(server.lines)
    finally:
        for server in servers:
            server.destroy()


@pytest.fixture
def serve(root: Path):
    """``serve(*options)`` starts a server of ``root``; see ``servers_in``."""
    with servers_in(root) as start:
        yield start


@pytest.fixture
def unread():
    """``unread(server, request, size_bytes)``: a client that leaves the answer unread, which the child has sent whole.

    ``size_bytes`` is more than the client's small buffer takes in, and less than the server's kernel does.
    """
    with contextlib.ExitStack() as stack:

        def ask(server: Server, request: bytes, size_bytes: int, *, half_close: bool = False) -> socket.socket:
            client = stack.enter_context(socket.socket())
            client.settimeout(PATIENCE_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect((server.host, server.port))
            client.sendall(request)
            if half_close:
                client.shutdown(socket.SHUT_WR)
            server.wait_until(lambda: unread_bytes(client) >= size_bytes, "an answer that was sent whole")
            return client

        yield ask


def tcp_sockets() -> Iterator[tuple[int, int, str, int, int]]:
    """Of each TCP socket by /proc/net/tcp: local and remote port, state, bytes to send, and bytes to be read.

    Of a listening socket, ``0A``, the last is the number of connections to be accepted.
    """
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        here, there = (int(address.partition(":")[2], 16) for address in (local, remote))
        to_send, to_read = (int(number, 16) for number in queues.split(":"))
        yield here, there, state, to_send, to_read


def unread_bytes(client: socket.socket) -> int:
    """How much the kernels of both sides hold for ``client``: what is to be sent to it, and what it is to read."""
    here = client.getsockname()[1]
    return sum(
        to_send if remote == here else to_read
        for local, remote, _, to_send, to_read in tcp_sockets()
        if here in (local, remote)
    )


@pytest.fixture(scope="session")
def other_user() -> int:
    """The user ID of a user that is not root and can run this Python and the program under test."""
    if os.geteuid():
        pytest.skip("only root can become another user")
    user = 12346
    command = [sys.executable, "-c", "import forkserver"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    try:
        tried = subprocess.run(
            command, user=user, group=user, extra_groups=[], cwd="/", env=environment, capture_output=True, check=False
        )
    except PermissionError:
        pytest.skip(f"another user cannot run {sys.executable}")
    if tried.returncode:
        pytest.skip(f"another user cannot read {REPOSITORY}")
    return user


@pytest.fixture(scope="session")
def serve_in():
    """``servers_in``, for a server that several tests share."""
    return servers_in
