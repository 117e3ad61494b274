"""This machine's own systemd in a throw-away container, with forkserver installed as docs/operations.md says."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from forkserver.client.fetch.download import fetch_file
from forkserver.client.local.target import local_file
from forkserver.client.outcome import Failure
from forkserver.client.remote.address import Address
from forkserver.client.remote.session import Session

REPOSITORY = Path(__file__).parents[3]
SCRIPT = Path(__file__).with_name("systemd_host.sh")
PATIENCE_S = 40.0
PAUSE_S = 0.6
PORT = 2057
CONTENT = os.urandom(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest().encode()
CLONE_NEWNET = 0x40000000
ANSWER = re.compile(rb"FS1 200 ok [^\n]* offset=0 length=%d\n" % len(CONTENT))
BUSY = re.compile(rb"FS1 503 busy [^\n]*\n\Z")
DROP_IN = "/run/systemd/system/forkserver.service.d/test.conf"


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this folder in one process where several run tests: they share one booted container."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.xdist_group("systemd"))


def what_is_missing() -> str:
    if os.geteuid() != 0:
        return "no root: systemd cannot be booted in a container"
    if not os.access("/usr/lib/systemd/systemd", os.X_OK):
        return "no systemd on this machine"
    tools = [name for name in ("nsenter", "unshare", "ip", "setpriv") if not shutil.which(name)]
    return f"not installed: {', '.join(tools)}" if tools else ""


class Host:
    """The container. Its network is a loopback of its own, which a thread must ``enter`` to reach the service."""

    address = ("127.0.0.1", PORT)

    def __init__(self, files: Path) -> None:
        self.name = f"pytest-{os.getpid()}"
        document = (REPOSITORY / "docs" / "operations.md").read_text()
        install = document.partition("```sh\n")[2].partition("```")[0]
        # Careful operators have such a umask.
        inside = f"umask 077\ncd {shlex.quote(str(REPOSITORY))}\n{install}"
        # systemctl enables offline, in a chroot of a machine that may not run systemd itself.
        setup = f'export SYSTEMD_OFFLINE=1; chroot "$ROOT" bash -euc {shlex.quote(inside)}\n'
        # Anybody could write there, were it not for the unit.
        setup += f'cp {shlex.quote(str(files))}/* "$ROOT/srv/files/"; chmod 777 "$ROOT/srv/files"'
        self._script("up", "--while-pid", str(os.getpid()), "--bind-ro", str(REPOSITORY), "--setup", setup)
        self.state_after_boot = self.show("ActiveState")
        init = self._script("pid").stdout.strip()
        self._network = os.open(f"/proc/{init}/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command inside, as root; what it says is for the caller to read."""
        whole = [str(SCRIPT), "exec", "--name", self.name, "--", *command]
        pipe = subprocess.PIPE
        return subprocess.Popen(whole, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True)

    def _script(self, verb: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [str(SCRIPT), verb, "--name", self.name, *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root."""
        return self._script("exec", "--", *command, check=check)

    def down(self) -> None:
        os.close(self._network)
        self._script("down")

    def enter(self) -> None:
        """Sockets that this thread makes from now on are of the container's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.setns(self._network, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())

    def ask(self, request: bytes, host: str = "127.0.0.1") -> bytes:
        """One request on a connection of its own, answered to the end; in a thread that entered the network."""
        with socket.create_connection((host, PORT), PATIENCE_S) as connection:
            connection.sendall(request + b"\n")
            connection.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := connection.recv(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)

    def show(self, name: str, unit: str = "forkserver.service") -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, *options: str) -> str:
        """What the service said; ``options`` of journalctl select."""
        everything = ("--unit", "forkserver.service", "--output", "cat", "--no-pager", "--quiet")
        synced = ("sh", "-c", 'journalctl --sync; exec journalctl "$@"', "sh")
        whole = self.run(*synced, *everything, *options, check=False)
        # The status is 1 where nothing was found, too.
        assert whole.stderr == ""
        return whole.stdout

    def now(self) -> str:
        """The option of journalctl for what is said from now on."""
        self.run("journalctl", "--sync")
        # Not a cursor: journalctl 252 also leaves out the first match after it.
        return f"--since=@{time.time():.6f}"

    def pids(self) -> list[int]:
        """Of all processes of the service, as seen inside; the supervisor's first."""
        group = self.show("ControlGroup")
        shell = f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs || cat /sys/fs/cgroup{group}/cgroup.procs"
        main = int(self.show("MainPID"))
        found = {int(pid) for pid in self.run("sh", "-c", f"({shell}) 2>/dev/null || :").stdout.split()}
        return [main, *sorted(found - {main})] if main else sorted(found)

    def oom_kills(self) -> int:
        """How many processes of the service the kernel ended because MemoryMax= was reached."""
        group = self.show("ControlGroup")
        shell = f"cat /sys/fs/cgroup/memory{group}/memory.oom_control || cat /sys/fs/cgroup{group}/memory.events"
        told = self.run("sh", "-c", f"({shell}) 2>/dev/null || :").stdout
        return sum(map(int, re.findall(r"^oom_kill (\d+)", told, re.MULTILINE)))

    def master_pid(self) -> int:
        """Of the newest generation, as the log tells."""
        return int(re.findall(r" master_pid=(\d+)", self.journal("--grep=^ready ", "--lines=1"))[-1])

    def wait_until(self, condition, what: str, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while not condition():
            assert time.monotonic() < deadline, f"not so after {patience_s} s: {what}\n{self.journal('--lines=30')}"
            time.sleep(0.1)  # most conditions start several programs


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    if "CI" not in os.environ:
        pytest.skip("boots a systemd in a container of its own, as root, for half a minute: set CI=true to have that")
    missing = what_is_missing()
    if missing:
        pytest.fail(missing)
    files = tmp_path_factory.mktemp("served")
    (files / "file").write_bytes(CONTENT)
    host = Host(files)
    # The test's main thread stands in the container's network from here to the end of the folder.
    outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    host.enter()
    yield host
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.setns(outside, CLONE_NEWNET) == 0
    os.close(outside)
    host.down()


@pytest.fixture
def service(host):
    """The host with the service running, as shipped; afterwards nobody may have told of a bug."""
    began = host.now()
    host.run("systemctl", "start", "forkserver.socket", "forkserver.service")
    yield host
    assert host.journal(began, "--grep=^bug ") == ""


@pytest.fixture
def drop_in(host):
    """``drop_in(text)``: change the service's section of the unit for one test."""

    def write(text: str) -> None:
        unit = f"[Service]\n{text}"
        host.run("sh", "-c", f"mkdir -p {os.path.dirname(DROP_IN)}; printf %s {shlex.quote(unit)} >{DROP_IN}")
        host.run("systemctl", "daemon-reload")

    yield write
    host.run("rm", "-f", DROP_IN)
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "stop", "forkserver.service")  # the next one is as shipped again


@pytest.fixture
def narrow(service):
    """The service, with sockets that hold little: a transfer whose peer does not read stays, even a small one."""
    network = Path("/proc/sys/net/ipv4")  # of the network that this thread is in
    before = {limits: limits.read_text() for limits in (network / "tcp_wmem", network / "tcp_rmem")}
    for limits in before:
        limits.write_text("4096 16384 65536")
    yield service
    for limits, text in before.items():
        limits.write_text(text)


class Held:
    """A request whose answer waits to be read: a transfer in progress. ``head`` and ``rest`` block."""

    def __init__(self, host: Host, request: bytes, source: str = "127.0.0.1", *, half_close: bool = True) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(PATIENCE_S)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        self._socket.bind((source, 0))
        self._socket.connect(host.address)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(request + b"\n")
        if half_close:
            self._socket.shutdown(socket.SHUT_WR)
        self.peer = "{}:{}".format(*self._socket.getsockname())

    def head(self) -> bytes:
        """The reply line."""
        return self._file.readline()

    def piece(self, size_bytes: int) -> bytes:
        """Some of the content, as it comes."""
        return self._file.read1(size_bytes)

    def rest(self) -> bytes:
        """Everything that is left, to the end, be it a reset."""
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while piece := self._file.read1(1 << 20):
                pieces.append(piece)
        return b"".join(pieces)

    def outcome(self) -> str:
        """See ``outcome``; only where nothing was read before."""
        return outcome(self.rest())

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def hold(host):
    """``hold(request, source)``: see ``Held``."""
    with contextlib.ExitStack() as stack:
        yield lambda *how, **more: stack.enter_context(contextlib.closing(Held(host, *how, **more)))


def outcome(answer: bytes) -> str:
    """What became of ``GET /file digest=sha256``: ``whole``, ``busy``, or ``cut``, where a child was ended."""
    if BUSY.match(answer):
        return "busy"
    head = ANSWER.match(answer)
    if not head:
        assert answer == b""
        return "cut"
    whole = CONTENT + b"FS1 END ok digest=sha256:" + DIGEST + b"\n"
    rest = answer[head.end() :]
    assert whole.startswith(rest)
    return "whole" if rest == whole else "cut"


class Load:
    """Clients that fetch until they are stopped: with ``retries`` as fsget does, with 0 just once at socket level.

    ``again``: who lost a connection in the middle of a transfer fetches anew, and counts as ``lost``.
    """

    def __init__(self, host: Host, place: Path, clients: int, retries: int, *, again: bool) -> None:
        self._host = host
        self._place = place
        self._retries = retries
        self._again = again
        self._ended = threading.Event()
        self.done = 0
        self.lost = 0
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def wait_for_more(self, count: int, patience_s: float = PATIENCE_S) -> None:
        """Until ``count`` more have been fetched."""
        goal = self.done + count
        self._host.wait_until(lambda: self.done >= goal or self.failures, f"{goal} fetches", patience_s)

    def stop(self) -> int:
        """How many were fetched; all that were begun, or the test fails."""
        self._ended.set()
        for thread in self._threads:
            thread.join()
        assert self.failures == []
        return self.done

    def _run(self, number: int) -> None:
        self._host.enter()
        # The pause leaves the processor to the server under test, and to the tests that run beside this one.
        while not self._ended.wait(PAUSE_S):
            try:
                self._fetch(number)
            except Failure as error:
                if not self._again or "lost" not in str(error):
                    self.failures.append(repr(error))
                    return
                self.lost += 1
                continue
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must hear of it
                self.failures.append(repr(error))
                return
            self.done += 1

    def _fetch(self, number: int) -> None:
        if not self._retries:
            answer = self._host.ask(b"GET /file digest=sha256")
            assert outcome(answer) == "whole", answer[:500]
            return
        path = self._place / f"{number}"
        session = Session(Address("127.0.0.1", PORT), timeout_s=30, retries=self._retries)
        try:
            with local_file(os.fsencode(path)) as target:
                fetch_file(session, b"/file", target, lambda _event: None)
        finally:
            session.close()
        assert path.read_bytes() == CONTENT
        path.unlink()


@pytest.fixture
def load(host, tmp_path):
    """``load(clients, retries=0)``: see ``Load``."""
    loads: list[Load] = []

    def start(clients: int, retries: int = 0, *, again: bool = False, patience_s: float = PATIENCE_S) -> Load:
        loads.append(Load(host, tmp_path, clients, retries, again=again))
        loads[-1].wait_for_more(clients, patience_s)
        return loads[-1]

    yield start
    for each in loads:
        each.stop()
