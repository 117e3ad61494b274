"""The README's sixty seconds and its Python example, run against a real server.

Every ``$`` line of the README's ``console`` blocks is run in order, in one directory. The outputs must be those of the
README but for PIDs, times, rates and the like. A failure shows the text that belongs into the README.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Sixty seconds\n")[2].partition("\n## ")[0]
PORT = "2057"
START = "forkserver serve --root files 2>server.log &\n"
INTERRUPTED = "--limit-rate"
"""A command with this option is interrupted by Ctrl-C, on a terminal."""
COLUMNS = 100

VARYING = [
    (r"\[\d+\]|\b(PIDs?|pid=|\"pid\": ?)(\s?\d+(, \d+)*)", r"\1 N"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+Z)?", "DATE"),
    (r"\b(start|mtime|etag|ms|wall_ms|cpu_ms|maxrss_kib)=\S+", r"\1=N"),
    (r"\b127\.0\.0\.1:\d+", "ADDRESS"),
    (r"[\d.]+ ([kMG]?B/s|s)\b", r"N \1"),
    (r"\[[#-]+\] +\d+%", "[BAR]"),
    (r"\b\d:\d\d:\d\d\b", "LEFT"),
    (r"[\d,]+ (bytes of it are kept|of them here before)", r"N \1"),
    (r"\^C", ""),  # the next drawing of the line hides it
]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)


def steps(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output that follows it."""
    found = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE)
    return [(command, output) for command, output in found]


def without_what_varies(text: str) -> str:
    for pattern, replacement in VARYING:
        text = re.sub(pattern, replacement, text)
    return text


def pids(text: str) -> list[str]:
    return re.findall(r"(?:PID |pid=)(\d+)", text)


def by_name(listing: str) -> str:
    """The lines of ``fsget --list`` in one order: a server lists a directory as the file system does."""
    return "".join(sorted(listing.splitlines(keepends=True), key=lambda line: line.split()[-1]))


class Person:
    """Runs commands in one directory, where ``fsget`` asks the server under test."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.server = ""
        self.log: Any = None
        programs = place / "bin"
        programs.mkdir()
        (programs / "fsget").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m forkserver.client "$@"\n')
        (programs / "fsget").chmod(0o755)
        self.environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "HOME": str(place), "TZ": "UTC"}
        self.environment["PATH"] = f"{programs}:{os.environ['PATH']}"
        self.environment.pop("XDG_CONFIG_HOME", None)

    def run(self, script: str) -> str:
        """Run a script of bash; returns all of its output."""
        environment = {**self.environment, "FSGET_SERVER": f"127.0.0.1:{self.server}"}
        command = ["bash", "-c", f"umask 022; {script.replace(PORT, self.server)}"]
        ended = subprocess.run(
            command, cwd=self.place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
        )
        return ended.stdout.decode().replace(f"127.0.0.1:{self.server}", f"127.0.0.1:{PORT}")

    def run_and_interrupt(self, command: str) -> str:
        """Run a command on a terminal and press Ctrl-C once a bar is shown; returns the last text of each line."""
        terminal, program = os.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        environment = {**self.environment, "FSGET_SERVER": f"127.0.0.1:{self.server}"}
        whole = ["setsid", "--ctty", "--wait", "env", "--default-signal=INT,HUP", *shlex.split(command)]
        process = subprocess.Popen(
            whole, cwd=self.place, env=environment, stdin=program, stdout=program, stderr=program, close_fds=True
        )
        os.close(program)
        shown, pressed = "", False
        with process, os.fdopen(terminal, "rb", buffering=0) as screen:
            while piece := read_terminal(screen.fileno()):
                shown += piece
                if not pressed and "%" in shown:
                    os.write(screen.fileno(), b"\x03")
                    pressed = True
        return "".join(line.rpartition("\r")[2].replace("\x1b[K", "") + "\n" for line in shown.split("\r\n")[:-1])


def read_terminal(descriptor: int) -> str:
    """Return the next output of the terminal; empty when all programs have closed it."""
    try:
        return os.read(descriptor, 65536).decode()
    except OSError:
        return ""


@pytest.fixture
def person(tmp_path, serve_in):
    """A person who has done what the first block of the section says, with the server on a free port."""
    person = Person(tmp_path)
    first = blocks("sh")[0]
    assert first.endswith(START)
    assert person.run(first.removesuffix(START)) == ""
    with serve_in(tmp_path / "files") as start:
        person.log = start()
        person.server = str(person.log.port)
        yield person


def with_pids_of(known: dict[str, str], command: str) -> str:
    return re.sub(r"\d+", lambda found: known.get(found[0], found[0]), command)


def transcript(person: Person, block: str, known: dict[str, str]) -> str:
    """Run the commands of a block; ``known`` has the PIDs of this run by those that the README names for them."""
    shown = ""
    for command, expected in steps(block):
        real = with_pids_of(known, command)
        if "server.log" in command:
            for pid in set(pids(real)) & set(known.values()):
                person.log.wait_for(f" receipt pid={pid} ")
            (person.place / "server.log").write_text("".join(f"{line}\n" for line in person.log.lines))
        output = person.run_and_interrupt(real) if INTERRUPTED in command else person.run(real)
        known |= dict(zip(pids(expected), pids(output), strict=False))
        shown += f"$ {real.replace(person.server, PORT)}\n{by_name(output) if '--list' in command else output}"
    return shown


@pytest.mark.timeout(180)  # it fetches 200 MB several times
def test_the_readme_shows_what_its_commands_do(person: Person) -> None:
    known: dict[str, str] = {}
    shown = [transcript(person, block, known) for block in blocks("console")]
    right = "\n".join(f"```console\n{each}```\n" for each in shown)
    stale = "the README's sixty seconds are stale; these blocks are right:\n\n" + right
    assert list(map(without_what_varies, blocks("console"))) == list(map(without_what_varies, shown)), stale


def test_the_readme_s_python_runs(person: Person) -> None:
    example = README.partition("```python\n")[2].partition("```")[0].replace('"127.0.0.1"', f'"127.0.0.1:{PORT}"')
    (person.place / "example.py").write_text(example.replace("/tmp/", f"{person.place}/").replace(PORT, person.server))
    shown = person.run(f"{shlex.quote(sys.executable)} example.py")
    assert "b'/reports/hello.txt' 13\n" in shown
    assert re.search(r"^sha256:[0-9a-f]{64} \[\d+\]$", shown, re.MULTILINE), shown
    assert (person.place / "hello.txt").read_bytes() == b"Hello, world\n"
