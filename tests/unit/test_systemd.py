"""What the service manager hears, on a real datagram socket, at moments the test makes up."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from forkserver.supervisor.systemd import Notifier

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Manager:
    """The service manager's end."""

    def __init__(self, address: str, monkeypatch) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    def heard(self) -> list[str]:
        """The datagrams since the last call."""
        datagrams = []
        while True:
            try:
                datagrams.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return datagrams

    def get_stuck(self) -> None:
        """Have a queue that takes nothing more."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as crowd, contextlib.suppress(BlockingIOError):
            crowd.setblocking(False)
            while True:
                crowd.sendto(b"x", self.socket.getsockname())

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path: Path, monkeypatch) -> Iterator[Manager]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    address = str(tmp_path / "notify") if request.param == "path" else f"@forkserver-test-{os.getpid()}"
    manager = Manager(address, monkeypatch)
    yield manager
    manager.close()


def test_life_is_told_word_by_word(manager: Manager) -> None:
    notifier = Notifier(0.0)
    notifier.ready()
    notifier.extend_timeout(1.5)
    notifier.stopping()
    assert manager.heard() == ["READY=1", "EXTEND_TIMEOUT_USEC=1500000", "STOPPING=1"]


def test_reloading_carries_the_managers_clock(manager: Manager) -> None:
    before = time.monotonic_ns() // 1000
    Notifier(0.0).reloading()
    (datagram,) = manager.heard()
    found = re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=(\d+)", datagram)
    assert found
    assert before <= int(found[1]) <= time.monotonic_ns() // 1000


def test_a_status_is_sent_once_a_second_and_only_if_it_is_new(manager: Manager) -> None:
    notifier = Notifier(100.0)
    notifier.status("one", 100.0)
    notifier.status("one", 100.1)
    notifier.status("two", 100.2)
    notifier.status("three", 100.3)
    assert manager.heard() == ["STATUS=one"]
    assert notifier.due == 101.0
    notifier.run_timers(100.9)
    assert manager.heard() == []
    notifier.run_timers(101.0)
    assert manager.heard() == ["STATUS=three"]
    assert notifier.due is None


def test_a_status_that_came_back_to_what_was_told_is_not_sent(manager: Manager) -> None:
    notifier = Notifier(0.0)
    for text, now in (("one", 0.0), ("two", 0.1), ("one", 0.2)):
        notifier.status(text, now)
    assert notifier.due is None
    notifier.run_timers(5.0)
    assert manager.heard() == ["STATUS=one"]


def test_a_status_is_one_line(manager: Manager) -> None:
    Notifier(0.0).status("serving /srv/\udcff\nREADY=1\x1b[m \u202e", 0.0)
    assert manager.heard() == ["STATUS=serving /srv/\\udcff?READY=1?[m ?"]


@pytest.mark.parametrize("pid", ["", str(os.getpid())], ids=["for anybody", "for this process"])
def test_the_watchdog_hears_twice_in_its_time(manager: Manager, monkeypatch, pid: str) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    notifier = Notifier(10.0)
    assert notifier.due == 10.0
    for now in (10.0, 11.0, 11.49, 11.5, 12.0, 13.0):
        notifier.run_timers(now)
    assert manager.heard() == ["WATCHDOG=1"] * 3
    assert notifier.due == 14.5


@pytest.mark.parametrize(("usec", "pid"), [("3000000", "1"), ("0", ""), ("-5", ""), ("soon", ""), ("", "")])
def test_a_watchdog_for_another_or_none_hears_nothing(manager: Manager, monkeypatch, usec: str, pid: str) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    notifier = Notifier(0.0)
    notifier.run_timers(1000.0)
    assert notifier.due is None
    assert manager.heard() == []


@pytest.mark.usefixtures("manager")
def test_the_variables_are_for_nobody_else(monkeypatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    Notifier(0.0)
    assert not [name for name in VARIABLES if name in os.environ]


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234", "\udcff"])
def test_without_a_manager_nothing_fails(monkeypatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    notifier = Notifier(0.0)
    notifier.ready()
    notifier.status("serving", 0.0)
    notifier.reloading()
    notifier.extend_timeout(1.0)
    notifier.stopping()


def test_a_manager_that_goes_away_is_not_missed(manager: Manager) -> None:
    notifier = Notifier(0.0)
    manager.close()
    notifier.status("serving", 0.0)
    notifier.ready()


def test_a_manager_that_is_stuck_is_not_waited_for_and_hears_all_words_and_the_last_status_later(
    manager: Manager, monkeypatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000000")
    notifier = Notifier(0.0)
    manager.get_stuck()
    notifier.reloading()
    notifier.status("one", 0.0)
    notifier.status("two", 0.5)
    notifier.ready()
    assert notifier.due == 1.0
    assert set(manager.heard()) == {"x"}
    notifier.run_timers(2.0)
    heard = manager.heard()
    assert heard[0].startswith("RELOADING=1\n")
    assert heard[1:] == ["READY=1", "WATCHDOG=1", "STATUS=two"]
    assert notifier.due == 12.0


def test_of_a_service_that_stops_the_manager_hears_nothing_else(manager: Manager) -> None:
    notifier = Notifier(0.0)
    notifier.stopping()
    notifier.reloading()
    notifier.ready()
    assert manager.heard() == ["STOPPING=1"]


def test_a_status_that_is_told_at_once_does_not_wait_for_its_second(manager: Manager) -> None:
    notifier = Notifier(0.0)
    notifier.status("one", 0.0)
    notifier.status("two", 0.1)
    assert manager.heard() == ["STATUS=one"]
    notifier.status("three", 0.2, at_once=True)
    notifier.ready()
    assert manager.heard() == ["STATUS=three", "READY=1"]
    notifier.status("four", 0.3)
    assert manager.heard() == []


def descriptors_heard(manager: Manager) -> list[tuple[str, list[int]]]:
    """The datagrams since the last call, with the inode numbers of the files that came with each."""
    datagrams: list[tuple[str, list[int]]] = []
    while True:
        try:
            data, fds, _, _ = socket.recv_fds(manager.socket, 4096, 4)
        except BlockingIOError:
            return datagrams
        datagrams.append((data.decode(), [os.fstat(fd).st_ino for fd in fds]))
        for fd in fds:
            os.close(fd)


def test_a_descriptor_is_stored_once_and_forgotten_once(manager: Manager) -> None:
    notifier = Notifier(0.0, stored=["table-1-1"])
    fd = os.memfd_create("table")
    inode = os.fstat(fd).st_ino
    for _ in range(3):
        notifier.store({"table-2-1": fd})
    assert descriptors_heard(manager) == [
        ("FDSTOREREMOVE=1\nFDNAME=table-1-1", []),
        ("FDSTORE=1\nFDNAME=table-2-1", [inode]),
    ]
    for _ in range(3):
        notifier.store({})
    assert descriptors_heard(manager) == [("FDSTOREREMOVE=1\nFDNAME=table-2-1", [])]
    os.close(fd)


def test_a_manager_that_is_stuck_is_given_the_descriptors_later(manager: Manager) -> None:
    notifier = Notifier(0.0, stored=["table-1-1"])
    manager.get_stuck()
    fd = os.memfd_create("table")
    notifier.store({"table-2-1": fd, "table-2-2": fd})
    assert set(manager.heard()) == {"x"}
    notifier.store({"table-2-2": fd})
    assert [text for text, _ in descriptors_heard(manager)] == [
        "FDSTOREREMOVE=1\nFDNAME=table-1-1",
        "FDSTORE=1\nFDNAME=table-2-2",
    ]
    os.close(fd)


PASSED = """
import os, socket, sys
from forkserver.supervisor.systemd import passed_descriptors
os.environ["LISTEN_PID"] = str(os.getpid())
sockets, tables = passed_descriptors()
print([each.fileno() for each in sockets], tables, [name for name in os.environ if name.startswith("LISTEN_")])
"""


@pytest.mark.parametrize(
    ("names", "kinds", "told"),
    [
        ("forkserver.socket:forkserver.socket", "ss", "[3, 4] []"),
        ("forkserver.socket:table-9-1:table-9-2", "sff", "[3] [('table-9-1', 4), ('table-9-2', 5)]"),
        ("table-9-1", "f", "[] [('table-9-1', 3)]"),
        # What a socket unit is free to call its sockets.
        ("table-9-1:x", "ss", "[3, 4] []"),
        ("", "s", "[3] []"),
    ],
)
def test_sockets_and_tables_are_told_apart_by_name_and_kind(names: str, kinds: str, told: str) -> None:
    done = passed(names, kinds)
    assert (done.stdout, done.returncode) == (f"{told} []\n", 0), done.stderr


@pytest.mark.parametrize("names", ["stored", "", "forkserver.socket"])
def test_what_is_neither_a_socket_nor_a_table_is_refused(names: str) -> None:
    done = passed(names, "f")
    assert "LISTEN_FDS: descriptor 3 is no socket" in done.stderr


def passed(names: str, kinds: str) -> subprocess.CompletedProcess[str]:
    """Run ``PASSED`` with descriptors from 3 on: ``s`` a socket, ``f`` a file in memory."""
    made = [socket.socket().detach() if kind == "s" else os.memfd_create("table") for kind in kinds]

    def place() -> None:
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in made]
        for number, fd in enumerate(high):
            os.dup2(fd, 3 + number)

    environment = {**os.environ, "LISTEN_FDS": str(len(kinds)), "LISTEN_FDNAMES": names}
    done = subprocess.run(
        [sys.executable, "-c", PASSED],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        close_fds=False,
        preexec_fn=place,
    )
    for fd in made:
        os.close(fd)
    return done
