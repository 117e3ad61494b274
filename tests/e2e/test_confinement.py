"""What master and child can still do once they serve: looked at from outside, by proc(5), and tried from inside."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def status_of(pid: int, name: str) -> str:
    found = re.search(rf"^{name}:\s+(.*)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return found[1]


def descriptors(pid: int) -> list[str]:
    """What each descriptor stands for, by proc_pid_fd(5)."""
    folder = f"/proc/{pid}/fd"
    return [os.readlink(f"{folder}/{fd}") for fd in sorted(os.listdir(folder), key=int)]


def limits_of(pid: int) -> dict[str, list[str]]:
    """Soft and hard value by name, from proc_pid_limits(5)."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): line[25:].split()[:2] for line in lines}


@pytest.fixture
def serving(serve, connect):
    """Starts a server; returns it and a child that has answered and waits for the next request."""

    def start(*options: str):
        server = serve(*options)
        connection = connect(server)
        connection.sendall(b"PING\n")
        found = re.search(rb" pid=(\d+) ", connection.recv(4096))
        assert found
        # The child may answer before the master has closed its own copy of the connection.
        server.wait_until(lambda: server.count_descriptors() <= server.descriptors, "as few descriptors as at first")
        return server, int(found[1])

    return start


def test_neither_master_nor_child_can_gain_a_privilege(serving):
    server, child = serving()
    assert status_of(server.master_pid, "NoNewPrivs") == "1"
    assert status_of(child, "NoNewPrivs") == "1"
    assert f" confined pid={server.master_pid} no_new_privs=1 landlock_abi=" in server.log(" confined ")[0]


def test_master_and_child_have_one_thread(serving):
    server, child = serving()
    assert status_of(server.master_pid, "Threads") == status_of(child, "Threads") == "1"


def test_a_child_has_its_connection_and_the_root_and_nothing_of_the_masters(serving, root):
    _, child = serving()
    *standard, one, other = descriptors(child)
    assert standard[:2] == ["/dev/null", "/dev/null"]
    assert re.fullmatch(r"pipe:\[\d+\]", standard[2]), "the log"
    assert len(standard) == 3
    assert sorted([one, re.sub(r"\d+", "N", other)]) == sorted([str(root), "socket:[N]"])


def test_a_child_that_serves_several_has_the_queue_and_no_listener_and_no_control_channel(serving, root):
    server, child = serving("--spare", "2", "--connections-per-child", "9")
    more = descriptors(child)[3:]
    assert sorted(re.sub(r"\d+", "N", each) for each in more if each != str(root)) == [
        "pipe:[N]",
        "socket:[N]",
        "socket:[N]",
    ]
    assert len(more) == 4
    masters = set(descriptors(server.master_pid))
    shared = {each for each in more if each.startswith("socket:")} & masters
    listening = {
        f"socket:[{line.split()[9]}]"
        for line in Path("/proc/net/tcp").read_text().splitlines()
        if line.split()[3] == "0A"
    }
    assert masters & listening, "the master listens"
    assert len(shared) == 1, "of the master's sockets it has the queue's end"
    assert not set(more) & listening
    assert not set(more) & set(descriptors(server.process.pid)), "and of the supervisor's none"


def test_a_child_can_make_no_process_and_no_core_and_has_bounds(serving):
    server, child = serving()
    limits = limits_of(child)
    assert limits["Max processes"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max open files"] == ["256", "256"]
    assert limits["Max address space"] == [str(2**28)] * 2
    assert limits["Max cpu time"] == ["3600", "3600"]
    assert limits_of(server.master_pid)["Max processes"] != ["0", "0"], "the master forks"


def test_a_child_is_out_of_reach_of_the_terminal_and_in_no_directory_of_anybodys(serving):
    server, child = serving()
    assert os.getsid(child) == os.getsid(server.master_pid) == server.master_pid != os.getsid(server.process.pid)
    assert os.readlink(f"/proc/{child}/cwd") == "/"


# What a master does before its first fork, and then what nobody should be able to do; each attempt gives the name of
# its error, or "done". It is told the served directory, a file outside it, and a port on which somebody listens.
ATTEMPTS = """
import ctypes, errno, json, os, signal, socket, sys

from forkserver.master import confine

PR_GET_DUMPABLE = 3
root, outside, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
root_fd = confine.open_root(root)
abi = confine.lock_in(root_fd)

def attempt(action, *arguments, **options):
    try:
        action(*arguments, **options)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"

def from_a_child(action, *arguments):
    read_fd, write_fd = os.pipe()
    if not os.fork():
        os.write(write_fd, attempt(action, *arguments).encode())
        os._exit(0)
    os.wait()
    return os.read(read_fd, 100).decode()

print(json.dumps({
    "abi": abi,
    "dumpable": ctypes.CDLL(None).prctl(PR_GET_DUMPABLE),
    "read inside": attempt(os.open, "hello.txt", os.O_RDONLY, dir_fd=root_fd),
    "list inside": attempt(os.open, ".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=root_fd),
    "read outside": attempt(os.open, outside, os.O_RDONLY),
    "read outside through ..": attempt(os.open, "../outside", os.O_RDONLY, dir_fd=root_fd),
    "read outside through a link": attempt(os.open, "link", os.O_RDONLY, dir_fd=root_fd),
    "read outside through /proc": attempt(os.open, "/proc/self/root" + outside, os.O_RDONLY),
    "list outside": attempt(os.listdir, "/"),
    "create inside": attempt(os.open, "new", os.O_WRONLY | os.O_CREAT, dir_fd=root_fd),
    "write inside": attempt(os.open, "hello.txt", os.O_WRONLY, dir_fd=root_fd),
    "remove inside": attempt(os.unlink, "hello.txt", dir_fd=root_fd),
    "make a directory inside": attempt(os.mkdir, "new", dir_fd=root_fd),
    "rename inside": attempt(os.rename, "hello.txt", "new", src_dir_fd=root_fd, dst_dir_fd=root_fd),
    "run a program": attempt(os.execv, "/bin/true", ["true"]),
    "run a program that is served": attempt(os.execv, root + "/program", ["program"]),
    "connect": attempt(socket.socket().connect, ("127.0.0.1", port)),
    "bind": attempt(socket.socket().bind, ("127.0.0.1", 0)),
    "signal the parent": attempt(os.kill, os.getppid(), 0),
    "signal itself": attempt(os.kill, os.getpid(), 0),
    "read outside from a child": from_a_child(os.open, outside, os.O_RDONLY),
}))
"""


@pytest.fixture
def attempts(root, tmp_path) -> dict[str, str]:
    (tmp_path / "outside").write_text("secret")
    (root / "link").symlink_to("../outside")
    (root / "program").write_text("#!/bin/sh\n")
    (root / "program").chmod(0o755)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = [str(root), str(tmp_path / "outside"), str(listener.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-c", ATTEMPTS, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            check=True,
            timeout=20,
        )
    result: dict[str, str] = json.loads(done.stdout)
    return result


def test_no_process_of_the_same_user_can_trace_a_master_or_child_or_take_their_descriptors(attempts):
    assert attempts["dumpable"] == 0, "which ptrace(2), pidfd_getfd(2) and process_vm_writev(2) ask for"


def test_what_serving_needs_is_possible_behind_the_wall(attempts):
    assert {name for name, end in attempts.items() if end == "done"} >= {"read inside", "list inside", "signal itself"}


def test_with_landlock_nothing_else_can_be_opened_changed_run_or_reached(attempts):
    abi = int(attempts.pop("abi"))
    del attempts["dumpable"]
    if not abi:
        pytest.skip("this kernel has no Landlock")
    expected = {"read inside": "done", "list inside": "done", "signal itself": "done"}
    if abi < 4:
        expected |= {"connect": "done", "bind": "done"}
    expected["signal the parent"] = "done" if abi < 6 else "EPERM"
    assert attempts == {name: expected.get(name, "EACCES") for name in attempts}


def test_when_memory_runs_out_master_and_child_go_before_the_supervisor(serve):
    server = serve("--spare", "1")
    server.wait_until(server.children, "a child")
    pids = (server.process.pid, server.master_pid, *server.children())
    supervisors, *others = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in pids]
    assert others == [min(supervisors + 900, 1000)] * 2
