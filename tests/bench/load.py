"""The load generator, and the other C programs: compiled here, run from here."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.bench.peers import Running
    from tests.bench.script import Script

_SOURCES = Path(__file__).parent / "c"
_PROGRAMS = {
    "loadgen": ["loadgen.c", "fast.c", "slow.c", "connection.c", "reply.c", "histogram.c"],
    "fork_server": ["fork_server.c", "serve.c"],
    "pool_server": ["pool_server.c", "serve.c"],
    "tcp_handler": ["tcp_handler.c", "serve.c"],
}
_FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
_SLACK_S = 60.0


def compile_all(directory: Path) -> None:
    """Put every C program of the benchmark into ``directory``."""
    for program, sources in _PROGRAMS.items():
        command = ["gcc", *_FLAGS, "-o", str(directory / program), *(str(_SOURCES / name) for name in sources), "-lm"]
        subprocess.run(command, check=True)


@dataclasses.dataclass(frozen=True)
class Load:
    """How hard to ask. ``requests``: stop after so many; 0: after ``seconds``."""

    clients: int
    seconds: float
    warmup_s: float = 0.3
    grace_s: float = 3.0
    requests: int = 0
    discard: bool = False
    slow_bytes_s: int = 0
    opens_per_s: float = 0.0

    @property
    def arguments(self) -> list[str]:
        """For the load generator's command line."""
        numbers = {
            "-c": self.clients,
            "-t": self.seconds,
            "-w": self.warmup_s,
            "-g": self.grace_s,
            "-n": self.requests,
            "-r": self.slow_bytes_s,
            "-o": self.opens_per_s,
        }
        return [part for option, value in numbers.items() for part in (option, str(value))] + ["-d"] * self.discard


class LoadGenerator:
    """The compiled program in ``directory``. ``prefix``: a command that runs it, ``taskset`` for one."""

    def __init__(self, directory: Path) -> None:
        self._program = str(directory / "loadgen")

    def start(self, server: Running, script: Script, load: Load, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Begin; ``result`` waits for the end."""
        command = [*prefix, self._program, "-p", str(server.port), *script.arguments, *load.arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(self, server: Running, script: Script, load: Load, prefix: tuple[str, ...] = ()) -> dict[str, float]:
        """Put the load on the server; returns what was seen, ``rate`` in connections a second among it."""
        return self.result(self.start(server, script, load, prefix), load)

    def result(self, process: subprocess.Popen[str], load: Load) -> dict[str, float]:
        """Wait for a load that was started."""
        try:
            output, _ = process.communicate(timeout=load.warmup_s + load.seconds + load.grace_s + _SLACK_S)
        finally:
            process.kill()
        if process.returncode:
            raise RuntimeError(f"the load generator failed: {process.args!r}")
        values: dict[str, float] = json.loads(output)
        values["rate"] = values["completed"] / (values["elapsed_s"] if load.requests else load.seconds)
        return values
