"""A server to measure: how it is started in a room of its own, asked, and ended."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench import files, load, procfs
from tests.bench.say import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.script import Script

REPOSITORY = str(Path(__file__).parents[2])
"""What is measured is the code that the benchmark stands beside."""
_START_S = 15.0
_STOP_S = 5.0


class Room:
    """The temporary directories of one run: programs, configurations and logs; what is served stands in memory."""

    def __init__(self) -> None:
        self.work = Path(tempfile.mkdtemp(prefix="bench-"))
        memory = Path("/dev/shm")
        self.memory = Path(tempfile.mkdtemp(prefix="bench-", dir=memory if os.access(memory, os.W_OK) else None))
        for path in (self.work, self.memory):
            path.chmod(0o755)  # most servers drop their powers
        self.root = self.memory / "root"
        files.make(self.root)
        self.programs = self.work / "programs"
        self.programs.mkdir()
        load.compile_all(self.programs)

    def configuration(self, name: str, text: str) -> str:
        """Write a configuration file; returns its path."""
        path = self.work / name
        path.write_text(text)
        return str(path)

    def remove(self) -> None:
        """Leave nothing."""
        for path in (self.work, self.memory):
            shutil.rmtree(path, ignore_errors=True)


@dataclasses.dataclass(frozen=True)
class Peer:
    """A server and what is known of it. ``command(room, port)`` starts it in the foreground on 127.0.0.1.

    ``content``: it sends files to the load generator; else the script is only its greeting.
    """

    name: str
    label: str
    script: Callable[[str, int], Script]
    command: Callable[[Room, int], list[str]]
    package: str | None = None
    content: bool = True
    ours: bool = False
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that runs."""

    peer: Peer
    port: int
    process: subprocess.Popen[bytes]

    @property
    def pids(self) -> list[int]:
        """Of all its processes."""
        return procfs.family(self.process.pid)


def start(peer: Peer, room: Room) -> Running:
    """Start a server; returns once it accepts connections."""
    port = _free_port()
    with (room.work / f"{peer.name}.log").open("ab") as log:
        # In a session of its own: Apache, when it ends, signals its whole process group.
        process = subprocess.Popen(
            peer.command(room, port),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=room.work,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": REPOSITORY},
        )
    running = Running(peer, port, process)
    deadline = time.monotonic() + _START_S
    while not _accepts(port):
        if process.poll() is not None or time.monotonic() > deadline:
            stop(running)
            text = (room.work / f"{peer.name}.log").read_text(errors="replace")
            raise RuntimeError(f"{peer.name} did not start:\n{text[-2000:]}")
        time.sleep(0.02)
    return running


def stop(running: Running) -> None:
    """Ask the server to end, then end whatever is left of it, by PID."""
    pids = running.pids
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        try:
            running.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            say(f"{running.peer.name} does not end by itself")
    procfs.end([pid for pid in pids if pid != running.process.pid])
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True
