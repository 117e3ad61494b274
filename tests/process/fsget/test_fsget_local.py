"""Faults of the local disk, made for real, and the ends a run can be brought to from outside."""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from forkserver.client.local.partial import PIECE_BYTES

GENEROUS_S = 20


def wait_until(happened):
    """Wait for a state that nobody announces; the deadline only ends a test that has failed."""
    deadline = time.monotonic() + GENEROUS_S
    while not happened():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_full_disk_is_told_before_any_content_and_leaves_nothing(fsget, lying_server, says, tiny_disk):
    server = lying_server([says.ask, says.header(100_000), says.hold])
    result = fsget("-s", server.address, "-d", str(tiny_disk), "f")
    assert result.status == 7
    assert result.err == (
        f"fsget: f: local file {tiny_disk}/f: no space left on the device; 100,000 bytes are needed\n"
    )
    assert os.listdir(tiny_disk) == []


def test_a_file_larger_than_is_allowed_is_a_failure_of_the_local_disk(fsget, lying_server, says, place):
    server = lying_server([says.ask, says.header(100_000), says.hold])
    result = fsget("-s", server.address, "f", first="ulimit -f 64")
    assert result.status == 7
    assert "larger than is allowed here" in result.err
    assert os.listdir(place) == []


def test_after_a_local_failure_the_other_files_are_fetched(fsget, lying_server, says, place):
    (place / "a").mkdir()
    server = lying_server(says.file(b"x"))
    result = fsget("-s", server.address, "a", "b")
    assert result.status == 7
    assert result.err == "fsget: a: local file ./a: is a directory, and is left as it is\n"
    assert (place / "b").read_bytes() == b"x"


def test_an_output_that_is_a_directory_is_told_what_was_meant(fsget, place):
    (place / "dd").mkdir()
    for output in ("dd", "dd/"):
        result = fsget("-o", output, "x")
        assert result.status == 7
        assert result.err == f"fsget: x: local file ./{output}: is a directory, and is left as it is; use -d dd\n"


def test_a_fifo_in_the_place_of_the_file_is_left_as_it_is(fsget, place):
    os.mkfifo(place / "f")
    result = fsget("f")
    assert result.status == 7
    assert "local file ./f: is not a regular file" in result.err


def test_a_symbolic_link_is_replaced_and_not_written_through(fsget, lying_server, says, place):
    (place / "precious").write_text("kept")
    (place / "f").symlink_to("precious")
    assert fsget("-s", lying_server(says.file(b"new")).address, "f").status == 0
    assert (place / "precious").read_text() == "kept"
    assert not (place / "f").is_symlink()
    assert (place / "f").read_bytes() == b"new"


@pytest.mark.parametrize("leads_to", ["/dev/null", "/proc/self/fd/2", "/dev/nothing"])
def test_a_link_of_the_system_is_left_as_it_is(fsget, lying_server, says, place, leads_to):
    (place / "f").symlink_to(leads_to)
    result = fsget("-s", lying_server(says.file(b"new")).address, "f")
    assert result.status == 7
    assert "is a link to a device or the like, and is left as it is" in result.err
    assert os.readlink(place / "f") == leads_to


def test_standard_output_may_be_named_by_its_path(fsget, lying_server, says):
    before = os.lstat("/dev/stdout").st_ino
    result = fsget("-s", lying_server(says.file(b"new")).address, "-o", "/dev/stdout", "f")
    assert (result.status, result.output) == (0, b"new")
    assert os.lstat("/dev/stdout").st_ino == before


def test_what_goes_to_dev_null_is_fetched_and_discarded(fsget, lying_server, says, place):
    result = fsget("-s", lying_server(says.file(b"new")).address, "-o", "/dev/null", "f")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("f -> /dev/null: 3 bytes, sha256 verified, ")
    assert os.listdir(place) == []


def test_a_full_device_is_a_local_failure(fsget, lying_server, says):
    result = fsget("-s", lying_server(says.file(b"new")).address, "-o", "/dev/full", "f")
    assert (result.status, result.err) == (7, "fsget: f: local file /dev/full: no space left on the device\n")


def test_a_fifo_that_is_named_gets_the_content(begin, lying_server, says, place):
    os.mkfifo(place / "pipe")
    (place / "link").symlink_to("pipe")
    process = begin("-s", lying_server(says.file(b"new")).address, "-q", "-o", "link", "f")
    assert (place / "pipe").read_bytes() == b"new"
    assert process.wait() == 0


def test_a_fifo_whose_reader_has_gone_is_a_local_failure(begin, lying_server, says, place):
    os.mkfifo(place / "pipe")
    asked = threading.Event()
    content = says.file(b"new")
    server = lying_server([*content[:1], asked, *content[1:]])
    process = begin("-s", server.address, "-o", "pipe", "f", stderr=subprocess.PIPE)
    with open(place / "pipe", "rb"):
        wait_until(lambda: server.requests)
    asked.set()
    assert process.stderr.read() == b"fsget: f: local file ./pipe: its reader has gone\n"
    assert process.wait() == 7


def test_a_socket_and_a_directory_that_are_named_are_left_as_they_are(fsget, place):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place / "socket"))
        result = fsget("-o", "socket", "f")
    assert (result.status, "is not a regular file, and is left as it is" in result.err) == (7, True)


def test_a_file_system_that_is_read_only_is_told_and_the_other_files_are_tried(fsget, lying_server, says, tiny_disk):
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    server = lying_server(says.file(b"x")[:2], says.file(b"y"))
    result = fsget("-s", server.address, "-d", str(tiny_disk), "f", "g")
    assert result.status == 7
    assert result.err == "".join(
        f"fsget: {name}: local file {tiny_disk}/{name}: the file system is read-only\n" for name in "fg"
    )


def test_a_failed_fetch_leaves_an_older_file_untouched(fsget, lying_server, says, place):
    (place / "f").write_text("older")
    server = lying_server([says.ask, says.header(5) + b"hel"])
    assert fsget("-s", server.address, "--retries", "0", "f").status == 5
    assert (place / "f").read_text() == "older"


@pytest.mark.parametrize(("directory", "why"), [("missing", "no such directory"), ("file", "not a directory")])
def test_a_directory_that_is_none_is_told(fsget, place, directory, why):
    (place / "file").touch()
    result = fsget("-d", directory, "f")
    assert result.status == 7
    assert result.err == f"fsget: f: local file {directory}/f: {why}\n"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_may_not_be_written_is_told(fsget, lying_server, says, place):
    place.chmod(0o500)
    result = fsget("-s", lying_server(says.file(b"x")).address, "f")
    assert (result.status, "permission denied" in result.err) == (7, True)


def test_a_name_too_long_for_the_file_system_is_told_before_the_server_is_asked(fsget):
    result = fsget("x" * 256)
    assert result.status == 7
    assert "the name is too long for this file system" in result.err


def test_a_standard_output_that_takes_nothing_is_a_local_failure(begin, lying_server, says):
    with open("/dev/full", "wb") as full:
        for options in (["-o", "-"], []):
            server = lying_server(says.file(b"x"))
            process = begin("-s", server.address, *options, "f", stdout=full, stderr=subprocess.PIPE)
            assert b"standard output: No space left on device\n" in process.stderr.read()
            assert process.wait() == 7


def test_a_closed_standard_output_is_a_local_failure(fsget, lying_server, says):
    for answer, options in (
        ([says.ask, says.directory + says.entry + b"FS1 END ok entries=1\n"], ["--list"]),
        ([says.ask, says.directory], ["--stat", "/"]),
        (says.file(b"x"), ["f"]),
        (says.file(b"x"), ["-o", "-", "f"]),
    ):
        result = fsget("-s", lying_server(answer).address, *options, first="exec >&-")
        assert (result.status, "standard output: Bad file descriptor\n" in result.err) == (7, True), options


def test_a_closed_standard_output_does_not_hurt_who_writes_nothing(fsget, lying_server, says):
    assert fsget("-s", lying_server(says.file(b"x")).address, "-q", "f", first="exec >&-").status == 0


def test_a_reader_that_has_gone_ends_the_run_quietly(begin, lying_server, says):
    reading, writing = os.pipe()
    os.close(reading)
    server = lying_server(says.file(b"x"))
    process = begin("-s", server.address, "-o", "-", "f", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.stderr.read() == b""
    assert process.wait() == 141


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_and_removes_the_temporary_file(begin, lying_server, says, place, number):
    server = lying_server([says.ask, says.header(9) + b"four", says.hold])
    process = begin("-s", server.address, "f", stderr=subprocess.PIPE)
    wait_until(lambda: os.listdir(place))
    (temporary,) = place.iterdir()
    assert temporary.stat().st_mode & 0o777 == 0o600
    process.send_signal(number)
    assert process.wait() == -number
    assert process.stderr.read() == b"fsget: f: interrupted\n"
    assert os.listdir(place) == []


@pytest.mark.parametrize("options", [["-o", "-"], ["-o", "/dev/null"]])
def test_a_signal_tells_how_much_was_passed_on(begin, lying_server, says, options):
    size = PIECE_BYTES + 9
    piece = bytes(PIECE_BYTES)
    server = lying_server([says.ask, says.header(size) + piece + says.end(piece), says.ask, says.hold])
    process = begin("-s", server.address, *options, "f", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until(lambda: len(server.requests) == 2)
    # The second piece is asked for before the first has come: wait until that is written.
    wait_until(lambda: written_bytes(process) >= PIECE_BYTES)
    process.send_signal(signal.SIGINT)
    assert process.stderr.read() == b"fsget: f: interrupted; 4,194,304 bytes of it were passed on\n"
    assert process.wait() == -signal.SIGINT


def written_bytes(process) -> int:
    """Return how many bytes the process has passed to write(2)."""
    with open(f"/proc/{process.pid}/io", encoding="ascii") as file:
        return int(dict(line.split(": ") for line in file)["wchar"])


def test_a_signal_during_a_listing_is_told_too(begin, lying_server, says):
    server = lying_server([says.ask, says.directory, says.hold])
    process = begin("-s", server.address, "--list", stderr=subprocess.PIPE)
    wait_until(lambda: server.requests)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.read() == b"fsget: interrupted\n"
    assert process.wait() == -signal.SIGTERM


def test_a_loop_of_a_shell_ends_with_the_run_that_is_interrupted(lying_server, says, place, environment):
    server = lying_server([says.ask, says.hold])
    fsget = f"{sys.executable} -m forkserver.client"
    loop = f"for each in 1 2 3; do {fsget} -s {server.address} -q f; done; echo survived"
    # As on a terminal: the signal goes to the shell, too, which ends its loop only if the program died of the signal.
    shell = ["env", "--default-signal=INT", "bash", "-c", loop]
    options = {"cwd": place, "env": environment, "stdout": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen(shell, **options) as process:
        wait_until(lambda: server.requests)
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate() == (b"", None)
        assert process.returncode == -signal.SIGINT


def test_an_ignored_signal_stays_ignored(begin, lying_server, says, place):
    hung_up = threading.Event()
    server = lying_server([says.ask, says.header(2) + b"x", hung_up, b"y" + says.end(b"xy")])
    process = begin("-s", server.address, "-q", "f", first='trap "" HUP')
    wait_until(lambda: os.listdir(place))
    process.send_signal(signal.SIGHUP)
    hung_up.set()
    assert process.wait() == 0
    assert (place / "f").read_bytes() == b"xy"


class Terminal:
    """The screen and keyboard of a person."""

    def __init__(self) -> None:
        self.person, self.program = os.openpty()
        self.screen = b""

    def see(self, text: bytes) -> None:
        while text not in self.screen:
            assert select.select([self.person], [], [], GENEROUS_S)[0]
            self.screen += os.read(self.person, 4096)

    def close(self) -> None:
        os.close(self.person)
        os.close(self.program)


@pytest.fixture
def terminal():
    pair = Terminal()
    yield pair
    pair.close()


def test_on_a_terminal_names_are_asked_for_until_an_empty_line(begin, lying_server, says, place, terminal):
    server = lying_server(says.file(b"x"), [says.ask, says.not_found])
    tty = terminal.program
    process = begin("-s", server.address, stdin=tty, stdout=tty, stderr=tty)
    terminal.see(f"Server {server.address}; an empty line or Ctrl-D ends.\r\nName of a file on the server: ".encode())
    os.write(terminal.person, b"taxLaw.pdf\n")
    terminal.see(b"served by PID 4711\r\nName of a file on the server: ")
    os.write(terminal.person, b"nofile.pdf\n")
    terminal.see(b"fsget: nofile.pdf: does not exist on the server (asked PID 4711)\r\nName of a file")
    os.write(terminal.person, b"a/..\n")
    terminal.see(b"fsget: a/..: this names no file")
    os.write(terminal.person, b"\n")
    assert process.wait() == 3
    assert terminal.screen.count(b"Ctrl-D") == 1
    assert os.listdir(place) == ["taxLaw.pdf"]


def test_on_a_terminal_ctrl_c_ends_the_asking_and_the_line(begin, terminal):
    tty = terminal.program
    process = begin(stdin=tty, stdout=tty, stderr=tty)
    terminal.see(b"on the server: ")
    process.send_signal(signal.SIGINT)
    terminal.see(b"on the server: \r\n")
    assert process.wait() == -signal.SIGINT


def test_on_a_terminal_end_of_file_ends_the_asking(begin, terminal):
    tty = terminal.program
    process = begin(stdin=tty, stdout=tty, stderr=tty)
    terminal.see(b"server: ")
    os.write(terminal.person, b"\x04")
    assert process.wait() == 0


def test_on_a_terminal_a_long_transfer_shows_how_far_it_is(begin, lying_server, says, terminal):
    # A byte at a time, this takes far longer than the second after which the bar appears.
    server = lying_server(itertools.chain([says.ask, says.header(100_000_000)], itertools.repeat(b"x")))
    process = begin("-s", server.address, "f", stderr=terminal.program, stdout=subprocess.DEVNULL)
    terminal.see(b"f  [----")
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT


def test_on_a_terminal_a_server_that_stays_busy_is_told_and_the_line_taken_away(begin, lying_server, says, terminal):
    server = lying_server(*[[says.ask, says.busy]] * 6)
    process = begin("-s", server.address, "--retries", "5", "f", stderr=terminal.program, stdout=subprocess.DEVNULL)
    terminal.see(f"\rfsget: {server.address} is busy, asking again in ".encode())
    terminal.see(b"(5 of 5)\x1b[K\r\x1b[Kfsget: f: the server is busy; try again later, or ")
    assert process.wait() == 4


def test_an_unexpected_exception_is_one_line_and_a_traceback_only_on_demand(fsget, environment, tmp_path):
    # A fault for real: a module of the standard library that does not work.
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "json.py").write_text("raise RuntimeError('no json today')")
    path = f"{broken}{os.pathsep}{environment['PYTHONPATH']}"
    environment = {key: value for key, value in environment.items() if key != "PYTHONWARNINGS"} | {"PYTHONPATH": path}
    arguments = ("-s", "127.0.0.1:1", "--json", "f")
    result = fsget(*arguments, env=environment)
    assert result.status == 1
    assert result.err.splitlines()[-1] == "fsget: internal error: RuntimeError: no json today"
    assert "Traceback" not in result.err
    assert "Traceback" in fsget(*arguments, env=environment | {"FSGET_DEBUG": "1"}).err


def test_a_failure_with_json_is_an_object_and_a_line(fsget):
    result = fsget("-d", "missing", "--json", "f")
    assert json.loads(result.out)["status"] == "local-disk"
    assert result.err
