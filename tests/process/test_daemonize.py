"""The PID file's lock, whom the daemon becomes, and that a stop never signals a stranger: with real processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.errors import OperatorError
from forkserver.front import daemoncontrol, daemonuser, pidfile
from forkserver.front.daemoncontrol import DaemonState, DaemonStatus, StartOutcome, StartResult
from forkserver.front.daemonoptions import DaemonOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[2]
HOLD = "from forkserver.front import pidfile; import sys; fd = pidfile.hold(sys.argv[1], 10); print(fd, flush=True); "
UNTIL_TOLD = "sys.stdin.read()"
RELEASE = f"{UNTIL_TOLD}; pidfile.release(sys.argv[1], fd)"
FLOOR = 10
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Program:
    """A Python program that has said one line, and reads its standard input."""

    def __init__(self, code: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        assert self.process.stdout
        assert self.process.stdout.readline()

    def end(self, number: int = 0) -> None:
        """By a signal, or by the end of its input."""
        if number:
            self.process.send_signal(number)
        self.process.communicate(timeout=20)


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    with contextlib.ExitStack() as stack:

        def start(code: str, *arguments: str) -> Program:
            each = Program(code, *arguments)
            stack.enter_context(each.process)
            stack.callback(each.process.kill)
            return each

        yield start


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "forkserver.pid")


def test_the_file_has_the_pid_of_its_holder_and_no_other_user_may_open_it(program, path):
    Path(path).touch(0o666)  # as an older version left it
    holder = program(HOLD + UNTIL_TOLD, path)
    assert Path(path).read_text() == f"{holder.pid}\n"
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert pidfile.holder(path) == pidfile.written(path) == holder.pid


def test_a_second_holder_is_told_of_the_first(program, path):
    holder = program(HOLD + UNTIL_TOLD, path)
    with pytest.raises(pidfile.RunningError) as caught:
        pidfile.hold(path, FLOOR)
    assert caught.value.pid == holder.pid
    assert Path(path).read_text() == f"{holder.pid}\n"


def test_what_is_believed_is_the_lock_and_not_the_number(program, path):
    holder = program(HOLD + UNTIL_TOLD, path)
    Path(path).write_text("1\n")
    assert pidfile.holder(path) == holder.pid


def test_a_release_removes_the_file(program, path):
    holder = program(HOLD + RELEASE, path)
    holder.end()
    assert not os.path.lexists(path)
    assert pidfile.holder(path) is None
    assert daemoncontrol.status(path) == DaemonStatus(DaemonState.NOT_RUNNING)


def test_who_was_killed_leaves_a_stale_file_that_the_next_one_takes(program, path):
    dead = program(HOLD + UNTIL_TOLD, path)
    dead.end(signal.SIGKILL)
    assert pidfile.holder(path) is None
    assert daemoncontrol.status(path) == DaemonStatus(DaemonState.DEAD, dead.pid)
    holder = program(HOLD + UNTIL_TOLD, path)
    assert pidfile.holder(path) == pidfile.written(path) == holder.pid


def test_a_stale_file_can_be_removed_and_a_held_one_cannot(program, path):
    holder = program(HOLD + UNTIL_TOLD, path)
    pidfile.remove_stale(path)
    assert pidfile.holder(path) == holder.pid
    holder.end(signal.SIGKILL)
    pidfile.remove_stale(path)
    assert not os.path.lexists(path)


def test_a_reader_s_lock_makes_nobody_the_server(program, path):
    Path(path).write_text("1\n")
    code = "import fcntl, sys; f = open(sys.argv[1]); fcntl.lockf(f, fcntl.LOCK_SH); print(1, flush=True); "
    reader = program(code + UNTIL_TOLD, path)
    assert pidfile.holder(path) is None
    assert daemoncontrol.stop(path, 0) is None
    with pytest.raises(OperatorError, match=f"PID {reader.pid}, which is no server, has locked it; remove the file"):
        pidfile.hold(path, FLOOR)


@NEEDS_ROOT
@pytest.mark.parametrize("umask", [0, 0o077])
def test_no_other_user_can_lock_the_file_and_so_keep_the_server_from_starting(program, umask):
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        path = os.path.join(name, "pid")
        before = os.umask(umask)
        try:
            holder = program(HOLD + UNTIL_TOLD, path)
        finally:
            os.umask(before)
        with (
            find_nobody().acting(),
            pytest.raises(OperatorError, match="only root and its owner may look; "),
        ):
            pidfile.holder(path)
        holder.end(signal.SIGKILL)
        with find_nobody().acting(), pytest.raises(PermissionError):
            os.open(path, os.O_RDONLY)
        program(HOLD + UNTIL_TOLD, path)


@NEEDS_ROOT
def test_a_file_of_another_user_s_is_not_locked_for_he_could_lock_it_too(path):
    Path(path).touch(0o600)
    os.chown(path, 65534, 65534)
    with pytest.raises(OperatorError, match="belongs to another user, UID 65534, who could lock it; remove it"):
        pidfile.hold(path, FLOOR)


def test_a_removed_file_is_no_longer_the_one(program, path):
    program(HOLD + UNTIL_TOLD, path)
    os.unlink(path)
    assert pidfile.holder(path) is None
    second = program(HOLD + UNTIL_TOLD, path)
    assert pidfile.holder(path) == second.pid


def test_no_link_is_followed(tmp_path, path):
    (tmp_path / "precious").write_text("precious")
    os.symlink("precious", path)
    for act in (pidfile.holder, lambda name: pidfile.hold(name, FLOOR)):
        with pytest.raises(OperatorError, match=r"--pid-file: .* it is a symbolic link; name another file"):
            act(path)
    pidfile.remove_stale(path)
    assert (tmp_path / "precious").read_text() == "precious"
    assert os.path.islink(path)


def test_what_is_no_file_is_left_alone(path):
    os.mkfifo(path)
    with pytest.raises(OperatorError, match="is not a regular file"):
        pidfile.hold(path, FLOOR)
    pidfile.remove_stale(path)
    assert os.path.lexists(path)


def test_a_missing_directory_is_told(path):
    with pytest.raises(OperatorError, match="create its directory"):
        pidfile.hold(path + "/x/y", FLOOR)


def test_no_descriptor_is_left_where_the_file_is_not_had(program, path):
    program(HOLD + UNTIL_TOLD, path)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(pidfile.RunningError):
        pidfile.hold(path, FLOOR)
    pidfile.holder(path)
    assert os.listdir("/proc/self/fd") == before


def test_a_number_that_has_come_round_to_a_stranger_is_not_signalled(program, path):
    stranger = program("import sys; print(1, flush=True); " + UNTIL_TOLD)
    Path(path).write_text(f"{stranger.pid}\n")
    assert daemoncontrol.stop(path, 0) is None
    assert stranger.process.poll() is None
    stranger.end()
    assert stranger.process.returncode == 0


def test_a_number_that_comes_round_between_look_and_signal_is_not_signalled(program, path, monkeypatch):
    holder = program(HOLD + UNTIL_TOLD, path)
    stranger = program("import sys; print(1, flush=True); " + UNTIL_TOLD)
    real = os.pidfd_open

    def reused(pid: int) -> int:
        assert pid == holder.pid
        holder.end(signal.SIGKILL)
        return real(stranger.pid)

    monkeypatch.setattr(os, "pidfd_open", reused)
    assert daemoncontrol.stop(path, 0) == holder.pid
    stranger.end()
    assert stranger.process.returncode == 0


def test_who_does_not_heed_the_first_signal_gets_a_second(program, path):
    code = (
        "import signal; came = []; "
        "signal.signal(signal.SIGTERM, lambda *_: came.append(1) if not came else sys.exit(7)); "
        f"{HOLD}[signal.pause() for _ in range(3)]"
    )
    holder = program(code, path)
    assert daemoncontrol.stop(path, 0.05) == holder.pid
    assert holder.process.wait(20) == 7
    assert not os.path.lexists(path)


def test_who_heeds_no_signal_is_told_of(program, path, monkeypatch):
    monkeypatch.setattr(daemoncontrol, "_STOP_TIMEOUT_S", 0.05)
    holder = program("import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + HOLD + UNTIL_TOLD, path)
    with pytest.raises(OperatorError, match=f"PID {holder.pid} does not end"):
        daemoncontrol.stop(path, 0.05)
    assert pidfile.holder(path) == holder.pid


def test_the_lock_ends_with_its_process_and_not_with_a_child_of_it(program, path):
    code = f"{HOLD}import subprocess; child = subprocess.Popen(['sleep', '600']); print(child.pid, flush=True); "
    holder = program(code + "child.wait()", path)
    assert holder.process.stdout
    child = os.pidfd_open(int(holder.process.stdout.readline()))
    try:
        holder.process.kill()
        holder.process.wait(20)
        assert pidfile.holder(path) is None
    finally:
        signal.pidfd_send_signal(child, signal.SIGKILL)
        assert select.select([child], [], [], 20)[0]
        os.close(child)


@pytest.fixture
def start(tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StartResult]:
    """``start(code)``: start a daemon that is this program instead, with its pipe as ``tell``."""

    def run(code: str) -> StartResult:
        program = tmp_path / "daemon.py"
        program.write_text(f"import os, sys; sys.path.append({str(REPOSITORY)!r}); tell = int(sys.argv[1])\n{code}")
        monkeypatch.setattr(daemoncontrol, "_PROGRAM", str(program))
        return daemoncontrol.start(path, DaemonOptions(None, {}, str(tmp_path), None, False, None, None))

    return run


ENDED = "the server ended before it was ready; see the end of its log"


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("os.abort()", StartResult(StartOutcome.FAILED, exit_status=70, complaint=ENDED)),
        (
            "os.write(tell, b'up %d\\n' % os.getpid())",
            StartResult(StartOutcome.FAILED, exit_status=70, complaint=ENDED),
        ),
        (
            "os.write(tell, b'up 4711\\nfailed 78 the complaint\\n')",
            StartResult(StartOutcome.FAILED, exit_status=78, complaint="the complaint"),
        ),
        (
            "os.write(tell, b'failed 70 bug: x\\n')",
            StartResult(StartOutcome.FAILED, exit_status=70, complaint="bug: x"),
        ),
        ("os.write(tell, b'running 4711\\n')", StartResult(StartOutcome.ALREADY_RUNNING, 4711)),
        (
            "os.write(tell, b'up 4711\\nready [::1]:2057,127.0.0.1:1\\n')",
            StartResult(StartOutcome.STARTED, 4711, addresses="[::1]:2057,127.0.0.1:1"),
        ),
    ],
)
def test_what_becomes_of_a_start_is_what_the_daemon_says(start, code, result):
    assert start(code) == result


def test_a_ctrl_c_while_it_comes_up_ends_the_daemon_too(start, path):
    code = (
        "import signal, time\n"
        "if os.fork():\n    os._exit(0)\n"
        "os.setsid()\n"
        "from forkserver.front import pidfile\n"
        "os.set_inheritable(tell, False)\n"
        "pidfile.hold(sys.argv[2], 10)\n"
        "os.write(tell, b'up %d\\n' % os.getpid())\n"
        "os.kill(PARENT, signal.SIGINT)\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(KeyboardInterrupt):
        start(code.replace("PARENT", str(os.getpid())))
    assert pidfile.holder(path) is None


@pytest.mark.parametrize(
    ("user", "group", "complaint"),
    [
        ("nobody-of-this-name", None, "--user: nobody-of-this-name: there is no such user"),
        ("99999999999999999999", None, "there is no such user"),
        ("no\n", None, r"--user: no\\n: there is no such user"),
        (None, "nogroup", "--group: needs --user"),
        ("nobody", "no-group-of-this-name", "there is no such group"),
    ],
)
def test_a_user_that_is_none_is_one_line(user, group, complaint):
    with pytest.raises(OperatorError, match=complaint):
        daemonuser.find(user, group)


def test_without_a_user_nothing_changes():
    assert daemonuser.find(None, None) is None


@NEEDS_ROOT
def test_root_becomes_the_user_for_good():
    code = (
        "from forkserver.front import daemonuser; import os\n"
        "os.setgroups([0, 4]); daemonuser.find('nobody', None).become()\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())\n"
        "for act in (lambda: os.setuid(0), lambda: os.setgid(0), lambda: os.setgroups([0])):\n"
        "    try: act()\n"
        "    except PermissionError: print('no')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    nobody = "(65534, 65534, 65534)"
    assert done.stdout.splitlines() == [f"{nobody} {nobody} [65534]", "no", "no", "no"]


@NEEDS_ROOT
def test_a_python_that_the_user_may_not_run_is_told_with_the_directory_that_is_closed(monkeypatch):
    with tempfile.TemporaryDirectory() as closed:  # 0700, in a directory that all may enter
        python = Path(closed) / "python3"
        python.touch()
        monkeypatch.setattr(sys, "executable", str(python))
        with pytest.raises(
            OperatorError, match=f"^{closed}: user nobody may not enter it, so it cannot run {python}; "
        ):
            find_nobody().check_access("/")


@NEEDS_ROOT
def test_who_acts_as_a_user_has_none_of_roots_rights_and_then_all_of_them_again(tmp_path):
    tmp_path.chmod(0o700)
    before = os.getresuid(), os.getresgid(), os.getgroups()
    with find_nobody().acting():
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (65534, 65534, [65534])
        with pytest.raises(PermissionError):
            os.listdir(tmp_path)
    assert (os.getresuid(), os.getresgid(), os.getgroups()) == before
    os.listdir(tmp_path)


def find_nobody() -> daemonuser.DaemonUser:
    found = daemonuser.find("nobody", None)
    assert found
    return found


def test_the_lock_is_one_that_the_kernel_tells_the_holder_of(path):
    """What all of the above stands on: fcntl(2) has it, flock(2) has not."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert pidfile.holder(path) is None
