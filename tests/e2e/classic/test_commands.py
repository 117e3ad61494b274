"""The classic daemon, without systemd: what its commands do, and what it is like inside."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

NOBODY = 65534
WARNING = "forkserver: warning: the daemon runs as root; give it a user of its own with --user\n"
AS_ROOT = os.geteuid() == 0
NEEDS_ROOT = pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")


def identity(pid: int) -> dict[str, list[int]]:
    """Users, groups and umask of a process, by proc_pid_status(5)."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: [int(word) for word in rows[name].split()] for name in ("Uid", "Gid", "Groups", "Umask")}


def test_a_whole_life(server, eventually, state):
    config = server.place / "forkserver.toml"
    config.write_text("hidden = false\n")
    (server.root / ".secret").write_text("s")
    assert server.run("status") == (3, "forkserver: not running\n", "")
    server.start("--config", str(config))
    assert server.running(server.pid) == f"forkserver: running, PID {server.pid}"
    assert server.pid_path.read_text() == f"{server.pid}\n"
    assert server.ask(b"GET /hello.txt\n").endswith(b"\nHello, world\nFS1 END ok\n")
    assert server.run("start", "--port", "0") == (0, f"forkserver: already running as PID {server.pid}\n", "")
    assert server.ask(b"GET /.secret\n").startswith(b"FS1 404 ")
    config.write_text("hidden = true\n")
    os.kill(server.pid, signal.SIGHUP)
    # Not at the second `ready`: for a moment the old master still takes what waits in the backlog.
    eventually(lambda: server.ask(b"GET /.secret\n").startswith(b"FS1 200 "), "a reload")
    first = server.pid
    server.start("--config", str(config), verb="restart")
    assert server.pid != first
    assert not state(first)
    assert server.ask(b"GET /hello.txt\n").endswith(b"\nHello, world\nFS1 END ok\n")
    family = [server.pid, server.master_pid]
    assert server.run("stop") == (0, f"forkserver: stopped, PID {server.pid}\n", "")
    assert not any(map(state, family))
    assert not server.pid_path.exists()
    assert server.log().endswith(" stopped\n")
    assert server.run("status")[0] == 3
    assert server.run("stop") == (0, "forkserver: not running\n", "")


def test_a_restart_starts_what_does_not_run(roots):
    roots.start(verb="restart")
    assert roots.run("stop")[0] == 0


def test_what_it_is_like_inside(server):
    server.start()
    assert os.readlink(f"/proc/{server.pid}/cwd") == "/"
    stat = Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()
    parent, _, session, terminal = map(int, stat[1:5])
    assert (terminal, session != server.pid) == (0, True), "it can never get a terminal again"
    assert parent != os.getpid()
    assert identity(server.pid)["Umask"] == [22]
    limits = Path(f"/proc/{server.pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    links = {fd: os.readlink(f"/proc/{server.pid}/fd/{fd}") for fd in "012"}
    assert links == {"0": "/dev/null", "1": "/dev/null", "2": str(server.log_path)}
    # The lock and the pipe to the command are the supervisor's alone.
    theirs = [os.readlink(link) for link in Path(f"/proc/{server.master_pid}/fd").iterdir()]
    assert str(server.pid_path) not in theirs
    assert server.run("stop")[0] == 0


@NEEDS_ROOT
def test_root_binds_a_low_port_and_then_becomes_the_user_for_good(roots, eventually):
    port = next(port for port in range(600, 1024) if is_free(port))
    roots.start("--user", "nobody", "--port", str(port))
    assert roots.port == port
    for pid in (roots.pid, roots.master_pid):
        who = identity(pid)
        assert (who["Uid"], who["Gid"], who["Groups"]) == ([NOBODY] * 4, [NOBODY] * 4, [NOBODY])
    assert "running as root" not in roots.log()
    assert roots.ask(b"GET /hello.txt\n").endswith(b"\nHello, world\nFS1 END ok\n")
    assert (roots.pid_path.stat().st_uid, roots.log_path.stat().st_uid) == (0, NOBODY)
    os.kill(roots.pid, signal.SIGHUP)  # the sockets stay, for as this user they could not be bound again
    eventually(lambda: roots.log().count(" ready ") == 2, "a reload")
    assert roots.ask(b"GET /hello.txt\n").endswith(b"\nHello, world\nFS1 END ok\n")
    assert roots.run("stop")[0] == 0
    assert not roots.pid_path.exists(), "its user could not remove it, who stops it can"


@NEEDS_ROOT
def test_started_by_root_the_supervisor_is_the_last_that_memory_costs_and_masters_are_as_others(roots):
    # Where root has no CAP_SYS_RESOURCE, as in some containers, the score can only be raised.
    lowered = subprocess.run(["sh", "-c", "echo -900 >/proc/self/oom_score_adj"], capture_output=True, check=False)
    expected = Path("/proc/self/oom_score_adj").read_text().strip() if lowered.returncode else "-900"
    roots.start("--user", "nobody")
    scores = [int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in (roots.pid, roots.master_pid)]
    assert scores == [int(expected), min(int(expected) + 900, 1000)]
    assert roots.run("stop")[0] == 0


def is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


@NEEDS_ROOT
def test_a_user_that_may_not_read_the_root_is_told_to_the_operator(roots):
    roots.root.chmod(0o700)
    status, out, err = roots.run("start", "--port", "0", "--user", "nobody")
    assert (status, out) == (78, "")
    assert err.startswith("forkserver: root: ")
    assert not roots.pid_path.exists()


def complaint(made, verb: str, *options: str) -> str:
    """The one line of a command that fails, for want of good settings."""
    status, out, err = made.run(verb, *options)
    assert (status, out) == (78, ""), err
    assert err.startswith("forkserver: ")
    assert err.count("\n") == 1
    return err


def test_a_start_that_fails_says_why_and_leaves_nothing(server):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert "another process listens there" in complaint(server, "start", "--port", port)
    assert "another process listens there" in server.log(), "for those who come later"
    assert "create its directory" in complaint(server, "start", "--port", "0", "--pid-file", "/nowhere/at/all")
    assert "--log-file: /nowhere/at/all" in complaint(server, "start", "--port", "0", "--log-file", "/nowhere/at/all")
    assert "out of bounds" in complaint(server, "start", "--port", "70000")
    assert "there is no such user" in complaint(server, "start", "--port", "0", "--user", "no-such-user")
    assert not server.pid_path.exists()
    assert server.run("status")[0] == 3
    server.start()
    assert server.run("stop")[0] == 0


def test_a_link_is_not_followed_to_log_into(roots):
    (roots.place / "precious").write_text("precious")
    roots.log_path.symlink_to("precious")
    assert "it is a symbolic link" in complaint(roots, "start", "--port", "0")
    assert (roots.place / "precious").read_text() == "precious"


@pytest.mark.skipif(not AS_ROOT, reason="root may write everywhere, and so cannot be refused")
def test_a_directory_that_may_not_be_written_to_is_told(make):
    server = make(("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"))
    assert "cannot open it: Permission denied" in complaint(server, "start", "--port", "0", "--pid-file", "/root.pid")


def test_a_bad_configuration_does_not_stop_what_runs(roots):
    config = roots.place / "forkserver.toml"
    config.write_text("")
    roots.start("--config", str(config))
    config.write_text("max_childern = 9\n")
    assert "did you mean max_children?" in complaint(roots, "restart", "--config", str(config))
    assert roots.running(roots.pid) == f"forkserver: running, PID {roots.pid}"
    assert roots.run("stop")[0] == 0


def still_runs(made) -> bool:
    told = made.running(made.pid)
    return told == f"forkserver: running, PID {made.pid}" and b"Hello" in made.ask(b"GET /hello.txt\n")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--bind", "127.0.0.1", "--bind", "192.0.2.1"), "no such address"),
        (("--log-file", "/nowhere/log"), "--log-file: /nowhere/log: "),
        (("--log-file", "/"), "cannot write it: Is a directory"),
    ],
    ids=["address", "no directory", "directory"],
)
def test_a_restart_that_cannot_start_says_why_and_that_the_old_daemon_is_stopped(roots, options, told):
    roots.start()
    line = complaint(roots, "restart", "--port", str(roots.port), *options)
    assert told in line
    assert line.endswith(f"; PID {roots.pid}, which served before, is stopped\n")
    assert roots.run("status")[0] == 3


def test_a_restart_may_widen_the_address_that_the_daemon_itself_holds(roots):
    roots.start()
    port = str(roots.port)
    before = roots.pid
    roots.start("--bind", "0.0.0.0", "--port", port, verb="restart")
    assert (roots.host, str(roots.port), roots.pid != before) == ("0.0.0.0", port, True)
    roots.start("--bind", "127.0.0.1", "--port", port, verb="restart")
    assert roots.run("stop")[0] == 0


@NEEDS_ROOT
def test_root_may_restart_what_another_user_started(make):
    server = make(("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"))
    server.start()
    roots = server.by(())
    roots.start(verb="restart")
    assert roots.pid != server.pid
    assert roots.run("stop")[0] == 0


@NEEDS_ROOT
@pytest.mark.parametrize("mode", [0o700, 0o600])
def test_a_restart_as_a_user_that_may_not_enter_the_root_stops_nothing(roots, mode):
    roots.start()
    roots.root.chmod(mode)
    told = complaint(roots, "restart", "--user", "nobody", "--port", str(roots.port))
    assert told.startswith(f"forkserver: root: {roots.root}: user nobody may not enter it; ")
    assert still_runs(roots)


@NEEDS_ROOT
def test_a_user_that_may_not_read_what_it_is_to_run_is_told_of(roots, tmp_path):
    roots.start()
    own = tmp_path / "modules"
    shutil.copytree(roots.modules, own)
    closed = own.parent
    while closed.parent.stat().st_mode & 0o001 == 0:
        closed = closed.parent
    closed.chmod(0o700)
    roots.modules = own
    unreadable = roots.by(())
    for verb in ("start", "restart"):
        told = complaint(unreadable, verb, "--user", "nobody", "--pid-file", str(roots.place / verb), "--port", "0")
        assert told.startswith(f"forkserver: {closed}: user nobody may not enter it, so it cannot read ")
        assert "; install forkserver with the system's own Python where every user can read it" in told
    assert still_runs(roots)


@NEEDS_ROOT
def test_a_configuration_that_the_user_could_not_read_again_is_warned_of(roots):
    config = roots.place / "forkserver.toml"
    config.write_text("")
    config.chmod(0o600)
    status, _, err = roots.run("start", "--config", str(config), "--user", "nobody", "--port", "0")
    remedy = "give that user the right to read it, or a reload will fail"
    told = f"forkserver: warning: {config}: the daemon's user cannot read it; {remedy}\n"
    assert (status, err) == (0, told)
    assert roots.run("stop")[0] == 0


@NEEDS_ROOT
def test_a_check_as_a_user_finds_what_that_user_may_not_read(roots):
    config = roots.place / "forkserver.toml"
    config.write_text(f"root = '{roots.root}'\n")
    arguments = ("check", "--config", str(config))
    assert roots.command(*arguments, "--user", "nobody") == roots.command(*arguments)
    config.chmod(0o600)
    told = f"forkserver: {config}: user nobody cannot read it; give that user the right to read it, "
    status, out, err = roots.command(*arguments, "--user", "nobody")
    assert (status, out, err.startswith(told)) == (78, "", True), err
    roots.root.chmod(0o700)
    assert "user nobody may not enter it; " in roots.command(*arguments, "--user", "nobody")[2]
    assert roots.command(*arguments)[0] == 0


def test_without_a_root_it_serves_the_directory_it_was_started_in(roots, eventually):
    roots.cwd, roots.root_option = roots.root, ()
    config = roots.root / "here.toml"
    config.write_text("hidden = true\n")
    (roots.root / ".secret").write_text("s")
    roots.start("--config", "here.toml")
    os.kill(roots.pid, signal.SIGHUP)
    eventually(lambda: roots.log().count(" ready ") == 2, "a reload")
    assert roots.ask(b"GET /.secret\n").startswith(b"FS1 200 ")
    assert roots.run("stop")[0] == 0
    assert " reload-failed " not in roots.log()
    assert set(re.findall(r" root=(\S+) ", roots.log())) == {str(roots.root)}


def test_of_many_starts_at_once_exactly_one_wins(roots):
    with contextlib.ExitStack() as stack:
        starts = [stack.enter_context(roots.begin("start", "--port", "0")) for _ in range(6)]
        results = [each.communicate(timeout=50) for each in starts]
    assert [each.returncode for each in starts] == [0] * 6
    assert {err for _, err in results} <= {"", WARNING}
    started = [re.search(r"started, PID (\d+)", out) for out, _ in results]
    (winner,) = {found[1] for found in started if found}
    assert sum(bool(found) for found in started) == 1
    assert sum(out == f"forkserver: already running as PID {winner}\n" for out, _ in results) == 5
    assert roots.log().count(" ready ") == 1
    assert roots.running(winner) == f"forkserver: running, PID {winner}"
    assert roots.run("stop")[0] == 0


def test_a_stop_lets_transfers_finish(roots, get, large, eventually):
    (roots.root / "large").write_bytes(large)
    roots.start()
    transfer = get(roots, b"GET /large")
    with roots.begin("stop") as stop:
        eventually(lambda: " drain reason=SIGTERM " in roots.log(), "a drain")
        assert stop.poll() is None
        content, trailer = transfer.rest()
        assert (content == large, trailer) == (True, b"FS1 END ok\n")
        transfer.close()
        assert stop.communicate(timeout=20) == (f"forkserver: stopped, PID {roots.pid}\n", "")
    assert stop.returncode == 0


def test_a_stop_with_a_timeout_ends_transfers(roots, get, large):
    (roots.root / "large").write_bytes(large)
    roots.start()
    get(roots, b"GET /large")
    assert roots.run("stop", "--timeout", "0.2") == (0, f"forkserver: stopped, PID {roots.pid}\n", "")
    assert len(re.findall(r" (?:end|died) pid=", roots.log())) == 1


def test_one_that_was_killed_is_told_dead_and_the_next_start_works(roots, eventually, state):
    roots.start()
    master = roots.master_pid
    os.kill(roots.pid, signal.SIGKILL)
    eventually(lambda: not state(roots.pid), "its end")
    dead = f"forkserver: dead: it was PID {roots.pid}, and its PID file {roots.pid_path} is still there\n"
    assert roots.run("status") == (1, dead, "")
    eventually(lambda: not state(master), "the end of its master")
    roots.start()
    assert roots.run("status")[0] == 0
    assert roots.run("stop")[0] == 0


def test_a_stale_file_with_a_stranger_s_number_harms_nobody(roots):
    with subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            roots.pid_path.write_text(f"{stranger.pid}\n")
            assert roots.run("status")[0] == 1
            status, out, err = roots.run("stop")
            assert (status, err) == (0, "")
            assert out.startswith("forkserver: not running; the PID file that a dead daemon left, ")
            assert not roots.pid_path.exists()
            roots.pid_path.write_text(f"{stranger.pid}\n")
            roots.start()
            assert roots.pid != stranger.pid
            roots.pid_path.write_text(f"{stranger.pid}\n")  # whatever is written there
            assert roots.run("stop") == (0, f"forkserver: stopped, PID {roots.pid}\n", "")
            assert stranger.poll() is None
        finally:
            stranger.kill()


@NEEDS_ROOT
def test_another_user_s_daemon_can_be_neither_looked_at_nor_stopped(make):
    server = make()
    server.start()
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
    other = server.by(prefix)
    for verb in ("status", "stop", "reload"):
        assert "only root and its owner may look; ask as one of them" in complaint(other, verb)
    server.pid_path.chmod(0o644)  # by hand
    running = f"forkserver: running, PID {server.pid}, but it does not report its status: "
    why = f"the server, PID {server.pid}, did not answer; only root and its own user may ask\n"
    assert other.run("status") == (0, running + why, "")
    assert "belongs to another user" in complaint(other, "stop")
    assert server.run("stop")[0] == 0
