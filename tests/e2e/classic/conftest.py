"""The classic daemon by its commands alone, as root or an ordinary user starts it."""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
import daemon  # type: ignore[import-untyped] # it has no annotations
import pytest

from forkserver.front import pidfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

REPOSITORY = Path(__file__).parents[3]
NOBODY = 65534
AS_ROOT = os.geteuid() == 0
WARNING = "forkserver: warning: the daemon runs as root; give it a user of its own with --user\n"


class Daemon:
    """The commands of one daemon, with its files in ``place``. ``host`` and ``port`` are those of the last start."""

    def __init__(self, place: Path, python: str, modules: Path, prefix: Sequence[str]) -> None:
        self.place = place
        self.pid_path = place / "forkserver.pid"
        self.log_path = place / "log"
        self.root = place / "root"
        self.cwd = place
        self.root_option: tuple[str, ...] = ("--root", str(self.root))
        self.host, self.port, self.pid = "", 0, 0
        self.modules = modules
        self._python = python
        self.command_line = [python, "-P", "-m", "forkserver.front.cli"]
        self._command = [*prefix, *self.command_line]
        self._is_root = AS_ROOT and not prefix
        self._environment = {**os.environ, "PYTHONPATH": str(modules)}

    def by(self, prefix: Sequence[str]) -> Daemon:
        """The same daemon's commands, given by another."""
        return Daemon(self.place, self._python, self.modules, prefix)

    def begin(self, verb: str, *options: str) -> subprocess.Popen[str]:
        """A command that goes on while the test acts."""
        files = ["--pid-file", str(self.pid_path)]
        if verb in {"start", "restart"}:
            files += ["--log-file", str(self.log_path), *self.root_option]
        return self._begin(verb, *files, *options)

    def _begin(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *arguments],
            env=self._environment,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, verb: str, *options: str) -> tuple[int, str, str]:
        """A command to its end: exit status, standard output, standard error."""
        return finish(self.begin(verb, *options))

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """As ``run``, with nothing but these arguments."""
        return finish(self._begin(*arguments))

    def start(self, *options: str, verb: str = "start") -> None:
        """Start it on a free port, unless told another."""
        options = options if "--port" in options else ("--port", "0", *options)
        status, out, err = self.run(verb, *options)
        warning = WARNING if self._is_root and "--user" not in options else ""
        assert (status, err) == (0, warning), self.log()
        line = rf"forkserver: started, PID (\d+), serving {re.escape(str(self.root))} on (\S+):(\d+)\n"
        found = re.fullmatch(line, out)
        assert found, out
        self.pid, self.host, self.port = int(found[1]), found[2], int(found[3])

    def running(self, pid: int | str) -> str:
        """The beginning of what ``status`` says, if that is a whole line about the daemon ``pid``; else all it says."""
        status, out, err = self.run("status")
        line = rf"(forkserver: running, PID {pid}), serving \S+ on \S+:\d+, version \S+, generation \d+, "
        found = re.fullmatch(line + r"\d+ of \d+ children, [\d,]+ served\n", out)
        return found[1] if (status, err) == (0, "") and found else f"{status} {out}{err}"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), 20)

    def ask(self, request: bytes) -> bytes:
        with self.connect() as connection, connection.makefile("rb") as file:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            return file.read()

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    @property
    def master_pid(self) -> int:
        return int(re.findall(r" master_pid=(\d+) ", self.log())[-1])


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end: exit status, standard output, standard error."""
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


@pytest.fixture(scope="session")
def modules() -> Iterator[Path]:
    """All that is imported, where any user can read it; the checkout and pytest's directories need not be."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        for package in (REPOSITORY / "forkserver", Path(click.__file__).parent, Path(daemon.__file__).parent):
            shutil.copytree(package, place / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        # Only once: an ordinary user cannot keep what a command has compiled.
        compileall.compile_dir(place, quiet=1)
        yield place


@pytest.fixture(scope="session")
def python(modules: Path) -> str:
    """A Python that another user than root can run."""
    if not AS_ROOT:
        return sys.executable
    for candidate in (sys.executable, "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            # It must be able to start another, too.
            code = (
                "import forkserver.front.daemonize, subprocess, sys; subprocess.run([sys.executable, '-V'], check=True)"
            )
            tried = subprocess.run(
                ["setpriv", f"--reuid={NOBODY}", "--clear-groups", candidate, "-c", code],
                env={"PYTHONPATH": str(modules)},
                cwd="/",
                capture_output=True,
                check=False,
            )
            if tried.returncode == 0:
                return candidate
    pytest.skip("no Python of version 3.11 that another user than root can run")


@pytest.fixture(params=["root", "user"] if AS_ROOT else ["user"])
def prefix(request) -> tuple[str, ...]:
    """Who starts it: root, or an ordinary user."""
    if not AS_ROOT or request.param == "root":
        return ()
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


@pytest.fixture
def make(modules: Path, python: str):
    """``make(prefix)``: a daemon to be; after the test nothing of it may be left."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        place = Path(name)

        def prepare(prefix: Sequence[str] = ()) -> Daemon:
            (place / "root").mkdir()
            (place / "root" / "hello.txt").write_bytes(b"Hello, world\n")
            place.chmod(0o755)
            if prefix:
                os.chown(place, NOBODY, NOBODY)
            made = Daemon(place, python, modules, prefix)
            stack.callback(end, made)
            return made

        yield prepare


def end(made: Daemon) -> None:
    """Whatever the test did, end the daemon: by its lock's holder, never by a number in a file."""
    with contextlib.suppress(ProcessLookupError):
        pid = pidfile.holder(str(made.pid_path))
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGTERM)


@pytest.fixture
def server(make, prefix) -> Daemon:
    return make(prefix)


@pytest.fixture
def roots(make) -> Daemon:
    """A daemon started by whoever runs the tests."""
    return make()


@pytest.fixture
def state() -> Callable[[int], str]:
    """``state(pid)``: a letter by proc_pid_stat(5); a zombie that a container's PID 1 leaves is as gone as a reaped."""

    def read(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0].replace("Z", "")
        except (FileNotFoundError, ProcessLookupError):
            return ""

    return read
