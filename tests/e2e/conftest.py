"""Clients of whole servers: the real ``fsget``, one at socket level that can stall, a relay that holds transfers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import prefork
from tests.conftest import tcp_sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 45.0
PAUSE_S = 0.6
SMALL_BUFFER_BYTES = 65536
FETCHED_BYTES = 3_000_000
# More than all that the sockets between server and client take in: the server's may grow to the last number of
# tcp_wmem, tcp(7), and the client's is small.
LARGE_BYTES = 2 * int(Path("/proc/sys/net/ipv4/tcp_wmem").read_text().split()[2]) + (2 << 20)


class Get:
    """One request at socket level, answered but for its content, which waits to be read: the transfer is in progress.

    ``head`` is the reply line, ``pid`` who wrote it, ``length`` what it promises.
    """

    def __init__(self, server, request: bytes) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE_S)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        self.socket.connect((server.host, server.port))
        self._file = self.socket.makefile("rb")
        self.socket.sendall(request + b"\n")
        self.head = self._file.readline()
        self.pid = int(self.field("pid"))
        self.length = int(self.field("length"))

    def field(self, name: str) -> str:
        found = re.search(rf" {name}=(\S+)", self.head.decode())
        assert found, self.head
        return found[1]

    def rest(self, *, hang_up: bool = True) -> tuple[bytes, bytes]:
        """Content and trailer, whether it comes in its place or early; no trailer: the transfer was cut.

        Then ``hang_up``: a server that is being stopped waits a while for a client to do that.
        """
        content, line = self._read(self.length), b""
        with contextlib.suppress(ConnectionResetError):
            line = self._file.readline()
        if hang_up:
            self.close()
        if len(content) == self.length and line.startswith(b"FS1 END "):
            return content, line
        # An early trailer may reach beyond the length promised.
        content, word, trailer = (content + line).rpartition(b"FS1 END ")
        return (content, word + trailer) if word else (trailer, b"")

    def _read(self, size_bytes: int) -> bytes:
        """Read so many bytes, or less where the connection ends before: in a reset, if its child was killed."""
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while size_bytes and (piece := self._file.read1(min(size_bytes, 1 << 20))):
                pieces.append(piece)
                size_bytes -= len(piece)
        return b"".join(pieces)

    def discard(self) -> tuple[int, bytes]:
        """As ``rest``, for a content too large to be kept: how many bytes came before the trailer, and the trailer."""
        count, tail = 0, b""
        while piece := self._file.read1(1 << 20):
            count += len(piece)
            tail = (tail + piece)[-1024:]
        self.close()
        trailer = tail[tail.rindex(b"FS1 END ") :]
        return count - len(trailer), trailer

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


class Relay:
    """Stands between clients and ``server``, and of each answer passes on only the first ``hold_bytes`` until told to.

    What a slow network does. ``heads`` are the reply lines of the connections that are held now.
    """

    def __init__(self, server, hold_bytes: int) -> None:
        self._server = server
        self.hold_bytes = hold_bytes
        self._go = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.heads: list[bytes] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def release(self) -> None:
        """Hold nothing any more."""
        self._go.set()

    def stop(self) -> None:
        """Hang up on whom it can, and be gone."""
        self.release()
        with contextlib.suppress(OSError):  # stopped already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            upstream = socket.socket()
            upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
            upstream.connect((self._server.host, self._server.port))
            for pump in (self._requests, self._answers):
                self._threads.append(threading.Thread(target=pump, args=(client, upstream)))
                self._threads[-1].start()

    def _requests(self, client: socket.socket, upstream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            try:
                while data := client.recv(65536):
                    upstream.sendall(data)
            finally:  # a client that is reset has hung up, too
                upstream.shutdown(socket.SHUT_WR)

    def _answers(self, client: socket.socket, upstream: socket.socket) -> None:
        passed = 0
        head = b""
        with client, upstream:
            with contextlib.suppress(OSError):  # a child that was killed with a request unread resets its connection
                while data := upstream.recv(65536):
                    head = head or data.partition(b"\n")[0]
                    client.sendall(data)
                    passed += len(data)
                    if passed >= self.hold_bytes and not self._go.is_set():
                        self.heads.append(head)
                        self._go.wait(PATIENCE_S)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)  # wakes the other pump, too


class Result:
    """What became of a run of ``fsget``."""

    def __init__(self, status: int, out: bytes, err: bytes) -> None:
        self.status = status
        self.out = out.decode("utf-8", "replace")
        self.err = err.decode("utf-8", "replace")

    @property
    def objects(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Running:
    """A run of ``fsget`` that goes on while the test acts."""

    def __init__(
        self, address: str, arguments: tuple[str | bytes, ...], place: Path, prefix: Sequence[str] = ()
    ) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FSGET_")}
        self.process = prefork.start(
            prefork.FSGET,
            ["-s", address, *arguments],
            prefix=prefix,
            cwd=place,
            env=environment | {"PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def result(self) -> Result:
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return Result(self.process.returncode, out, err)

    def destroy(self) -> None:
        with self.process:  # closes its pipes
            self.process.kill()


class Fetchers:
    """Clients that fetch one file after the other, each over a connection of its own, until told to stop.

    ``whole`` transfers were byte-exact; ``unanswered`` connections ended before the first byte of an answer, as one may
    that the killed master held in its hand; ``wrong`` is everything else, and must stay empty.
    """

    def __init__(self, server, content: bytes, count: int) -> None:
        digest = hashlib.sha256(content).hexdigest()
        self._expected = content + f"FS1 END ok digest=sha256:{digest}\n".encode()
        self._server = server
        self._stop = threading.Event()
        self._news = threading.Condition()
        self.whole: list[int] = []
        self.unanswered = 0
        self.wrong: list[str] = []
        self._threads = [threading.Thread(target=self._fetch_on) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def wait_for(self, count: int) -> None:
        """Wait until so many transfers more are whole."""
        with self._news:
            count += len(self.whole)
            assert self._news.wait_for(lambda: len(self.whole) >= count or self.wrong, 30)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _fetch_on(self) -> None:
        # The pause leaves the processor to the server under test, and to the tests that run beside this one.
        while not self._stop.wait(PAUSE_S):
            try:
                answer = self._fetch()
            except OSError as error:
                answer, problem = b"", repr(error)
            else:
                problem = f"{len(answer)} bytes, the last of them {answer[-100:]!r}"
            with self._news:
                head, _, rest = answer.partition(b"\n")
                if rest == self._expected:
                    self.whole.append(int(re.findall(rb" pid=(\d+) ", head)[0]))
                elif problem.startswith("0 bytes"):
                    self.unanswered += 1
                else:
                    self.wrong.append(problem)
                self._news.notify_all()

    def _fetch(self) -> bytes:
        with self._server.connect() as connection:
            pieces = []
            try:
                connection.sendall(b"GET /file digest=sha256\n")
                connection.shutdown(socket.SHUT_WR)
                while piece := connection.recv(1 << 18):
                    pieces.append(piece)
            except OSError:
                if pieces:
                    raise
            return b"".join(pieces)


@pytest.fixture
def begin(place: Path) -> Iterator[Callable[..., Running]]:
    """``begin(server_or_relay, *arguments)`` starts an ``fsget`` in ``place``, or in the directory given.

    ``prefix`` is a command that runs it, by exec.
    """
    runs: list[Running] = []

    def start(server, *arguments: str | bytes, place: Path = place, prefix: Sequence[str] = ()) -> Running:
        address = server.address if isinstance(server, Relay) else f"{server.host}:{server.port}"
        runs.append(Running(address, arguments, place, prefix))
        return runs[-1]

    yield start
    for run in runs:
        run.destroy()


@pytest.fixture
def fsget(begin: Callable[..., Running]) -> Callable[..., Result]:
    """Run ``fsget`` to its end."""
    return lambda *arguments, **options: begin(*arguments, **options).result()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where ``fsget`` puts what it fetches."""
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    relays: list[Relay] = []

    def start(server, hold_bytes: int = 2 << 20) -> Relay:
        relays.append(Relay(server, hold_bytes))
        return relays[-1]

    yield start
    for each in relays:
        each.stop()


@pytest.fixture
def get() -> Iterator[Callable[..., Get]]:
    with contextlib.ExitStack() as stack:
        yield lambda server, request: stack.enter_context(contextlib.closing(Get(server, request)))


@pytest.fixture
def connect() -> Iterator[Callable[..., socket.socket]]:
    """``connect(server)``: a connection that is closed after the test, if not before."""
    with contextlib.ExitStack() as stack:
        yield lambda server: stack.enter_context(server.connect())


@pytest.fixture(scope="session")
def large() -> bytes:
    """A content that does not fit into the sockets between a server and a client that does not read."""
    return random.Random(2057).randbytes(LARGE_BYTES)


@pytest.fixture
def configuration(tmp_path: Path) -> Callable[[str], tuple[str, str]]:
    """Options that make the server read a configuration file with this text."""

    def write(text: str) -> tuple[str, str]:
        path = tmp_path / "forkserver.toml"
        path.write_text(text)
        return "--config", str(path)

    return write


@pytest.fixture
def accounted() -> Callable[..., None]:
    """Nothing is left of ``connections`` that made one request each, and the log has one line for every one."""

    def check(server, connections: int, *, died: int = 0, idle: int = 0) -> None:
        server.quiet(idle)
        lines = f"{connections - died} `end` lines, {died} `died` lines"
        server.wait_until(
            lambda: len(server.log(" end ")) >= connections - died and len(server.log(" died pid=")) >= died, lines
        )
        assert len(server.log(" end ")) == connections - died
        assert len(server.log(" died pid=")) == died

    return check


@pytest.fixture
def backlog() -> Callable[..., int | None]:
    """How many connections wait to be accepted; None: nobody listens."""

    def count(server) -> int | None:
        waiting = (to_read for local, _, state, _, to_read in tcp_sockets() if (local, state) == (server.port, "0A"))
        return next(waiting, None)

    return count


@pytest.fixture
def processor_s() -> Callable[[int], float]:
    """Processor time a process has used so far, by proc_pid_stat(5)."""

    def read(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    return read


@pytest.fixture
def states() -> Callable[[list[int]], str]:
    """A letter for each process that is there, ``Z`` for a zombie, by proc_pid_stat(5)."""

    def read(pids: list[int]) -> str:
        letters = []
        for pid in pids:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                letters.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
        return "".join(letters)

    return read


@pytest.fixture
def eventually() -> Callable[..., None]:
    """Wait for what no log line tells: that a process is gone, a port closed."""

    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not so after {PATIENCE_S} s: {what}"
            time.sleep(0.005)

    return wait


@pytest.fixture
def fetchers() -> Iterator[Callable[..., Fetchers]]:
    """``fetchers(server, count)``: see ``Fetchers``; the file is made in the server's root."""
    content = os.urandom(FETCHED_BYTES)
    started = []

    def start(server, count: int) -> Fetchers:
        (server.root / "file").write_bytes(content)
        started.append(Fetchers(server, content, count))
        return started[-1]

    yield start
    for each in started:
        each.stop()
