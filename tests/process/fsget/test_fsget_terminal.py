"""The status line on a real pseudo-terminal: narrow, resized, stopped by a shell, and while a server is gone."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading

import pytest

from forkserver.client.command.cells import cells

GENEROUS_S = 30
HIDDEN_CURSOR = b"\x1b[?25l"
LARGE_BYTES = 1 << 28


class Terminal:
    """The screen and keyboard of a person."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()
        self.screen = b""
        """What was not looked at yet."""
        self.history = b""

    def resize(self, columns: int) -> None:
        fcntl.ioctl(self.person, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read(self) -> None:
        assert select.select([self.person], [], [], GENEROUS_S)[0], self.screen
        came = os.read(self.person, 65536)
        self.screen += came
        self.history += came

    def see(self, text: bytes) -> None:
        """Wait until the screen has ``text``, behind what was seen before."""
        while text not in self.screen:
            self.read()
        self.screen = self.screen[self.screen.index(text) + len(text) :]

    def type(self, keys: str) -> None:
        os.write(self.person, keys.encode())

    def lines(self):
        """Yield the texts of the status line, as they are drawn."""
        while True:
            while b"\x1b[K" not in self.screen:
                self.read()
            line, _, self.screen = self.screen.partition(b"\x1b[K")
            yield line.rpartition(b"\r")[2].decode()

    def close(self) -> None:
        os.close(self.person)
        os.close(self.program)


@pytest.fixture
def terminal():
    pair = Terminal()
    yield pair
    pair.close()


@contextlib.contextmanager
def ending(process):
    """Kill the process also after a failure: it would be waited for."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def slow(server, root):
    """Arguments with which a fetch lasts for minutes, of a file with a name of cells and bytes that differ."""
    name = "文書の一覧と報告書の控え-of-a-long-name.bin"
    with open(root / name, "wb") as file:
        file.truncate(LARGE_BYTES)
    return ["-s", f"{server.host}:{server.port}", "--limit-rate", "1M", name]


def test_a_line_fits_the_terminal_also_when_that_is_resized(begin, slow, terminal):
    terminal.resize(80)
    process = begin(*slow, stderr=terminal.program, stdout=subprocess.DEVNULL)
    lines = terminal.lines()
    for columns in (80, 38, 20, 80):
        terminal.resize(columns)
        # A line may have been drawn just before.
        next(line for line in lines if cells(line) < columns)
        drawn = list(itertools.islice(lines, 3))
        assert all(cells(line) < columns and "%" in line for line in drawn), drawn
        assert all(("MB/s" in line or "kB/s" in line) == (columns > 20) for line in drawn), drawn
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT


@pytest.mark.parametrize("shell", ["bash --norc", "dash", "zsh -f"])
def test_a_stopped_run_leaves_the_cursor_and_a_line_for_the_prompt_and_goes_on_in_the_foreground(
    shell, slow, terminal, place, environment
):
    program, *options = shell.split()
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    terminal.resize(80)
    tty = terminal.program
    ours = {"PS1": "PROMPT> ", "TERM": "xterm", "HOME": str(place)}
    streams = {"stdin": tty, "stdout": tty, "stderr": tty}
    command = ["setsid", "--ctty", program, *options, "-i"]
    with subprocess.Popen(command, cwd=place, env=environment | ours, **streams) as process, ending(process):
        terminal.see(b"PROMPT> ")
        terminal.type(f"{sys.executable} -m forkserver.client {' '.join(slow)}\n")
        terminal.see(b" MB/s  ")
        terminal.type("\x1a")
        for expected in (b"\n", b"PROMPT> "):
            terminal.see(expected)
        # What a background process would draw would meet the prompt.
        terminal.type("bg\n")
        terminal.see(b"PROMPT> ")
        before = len(terminal.history)
        fetch_more(process)
        terminal.type("echo seen $((20 + 3))\n")
        terminal.see(b"seen 23")
        assert b"%" not in terminal.history[before:]
        terminal.type("fg\n")
        terminal.see(b"%")
        terminal.type("\x03")
        terminal.see(b": interrupted")
        terminal.see(b"PROMPT> ")
        assert HIDDEN_CURSOR not in terminal.history


def fetch_more(shell: subprocess.Popen[bytes]) -> None:
    """Wait until the job of the shell has put away what it would have drawn several times."""
    with open(f"/proc/{shell.pid}/task/{shell.pid}/children", encoding="ascii") as file:
        job = int(file.read().split()[0])
    enough = written_bytes(job) + 500_000
    while written_bytes(job) < enough:
        os.sched_yield()


def written_bytes(process: int) -> int:
    """Return how many bytes the process has written to files and terminals."""
    with open(f"/proc/{process}/io", encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file)["wchar"])


def test_a_terminal_that_goes_away_does_not_take_the_transfer_with_it(begin, lying_server, says, place):
    terminal = Terminal()
    gone = threading.Event()
    size = 300_000
    steps = [says.ask, says.header(size), *[b"x"] * 5, gone, b"x" * (size - 5) + says.end(b"x" * size)]
    server = lying_server([says.ask], [says.ask], [says.ask], [says.ask], [says.ask], steps)
    process = begin("-s", server.address, "f", stderr=terminal.program, stdout=subprocess.DEVNULL)
    terminal.see(b"(5 of 10)")
    terminal.close()
    gone.set()
    assert process.wait() == 0
    assert (place / "f").stat().st_size == size


def test_a_lost_connection_is_told_before_the_wait_and_until_the_answer(begin, lying_server, says, terminal):
    release = threading.Event()
    content = b"x" * 2000
    answer = says.file(content)
    server = lying_server(
        [says.ask, says.header(2000) + b"x" * 1000], *[[says.ask]] * 4, [says.ask, release, *answer[1:]]
    )
    process = begin("-s", server.address, "f", stderr=terminal.program, stdout=terminal.program)
    lines = terminal.lines()
    told = next(lines)
    assert re.fullmatch(rf"fsget: {re.escape(server.address)} .*, asking again in [12] s \([45] of 10\)", told)
    # Only that of the fifth retry counts down while nothing is asked.
    told = next(line for line in itertools.chain([told], lines) if "(5 of 10)" in line)
    assert "asking again in " in told
    assert len(server.requests) == 5
    told = next(line for line in lines if " in " not in line)
    assert told.endswith(", asking again (5 of 10)")
    release.set()
    assert next(line for line in lines if line != told).startswith("f  [")
    terminal.see(b"f: 2,000 bytes, sha256 verified")
    assert process.wait() == 0
