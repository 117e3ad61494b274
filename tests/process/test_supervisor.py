"""The supervisor: sockets it is given, masters that cannot start, settings that cannot be served."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

ADOPT = """
import os, sys
fd, program = int(sys.argv[1]), sys.argv[2:]
os.dup2(fd, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="files")
os.execv(program[0], program)
"""


@pytest.fixture
def listener():
    """A listening socket of the service manager's, which the test plays."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def adopting(given: socket.socket) -> dict[str, object]:
    return {"prefix": [sys.executable, "-c", ADOPT, str(given.fileno())], "pass_fds": [given.fileno()]}


def test_a_socket_passed_by_the_service_manager_is_served_and_outlives_the_server(serve, listener):
    server = serve("--bind", "192.0.2.1", **adopting(listener))
    assert server.port == listener.getsockname()[1]
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    assert server.stop() == 0
    with server.connect(), listener.accept()[0]:
        pass


def test_clients_that_keep_coming_do_not_prolong_a_stop_while_their_socket_stays_open(serve, listener):
    server = serve(**adopting(listener))

    def ask_on() -> None:
        with contextlib.suppress(OSError):  # at the end nobody accepts, and the test closes the socket
            while True:
                server.ask(b"GET /hello.txt\n")

    clients = [threading.Thread(target=ask_on) for _ in range(16)]
    for client in clients:
        client.start()
    server.wait_for(" end ", 100)
    server.process.terminate()
    assert server.process.wait(20) == 0
    server.stop()
    listener.close()
    for client in clients:
        client.join()
    (drain,) = (number for number, line in enumerate(server.lines) if " drain reason=SIGTERM " in line)
    served_after = sum(" end " in line for line in server.lines[drain:])
    # Those that were served or waited, one of each client, and those that came before the master heard of the stop.
    assert served_after < 500, "without a limit: thousands"


def reload(server) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkserver.front.cli", "reload", "--pid", str(server.process.pid)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)


def test_addresses_that_are_not_used_because_sockets_were_passed_are_told_of_at_start_and_reload(
    serve, listener, tmp_path
):
    config = tmp_path / "forkserver.toml"
    config.write_text('bind = ["127.0.0.1"]\n')
    address = "{}:{}".format(*listener.getsockname())
    server = serve("--config", str(config), "--port", "9999", **adopting(listener))
    warning = server.wait_for("= 9999: not used")
    assert (
        f' warning reason="port = 9999: not used, because the server was started with sockets on {address}; ' in warning
    )
    config.write_text('bind = ["192.0.2.1", "::1"]\n')
    said = reload(server).stderr
    assert said.startswith("forkserver: warning: bind = 192.0.2.1, ::1 and port = 9999: not used, because the server ")
    assert said.count("\n") == 1
    assert ' reason="bind = 192.0.2.1, ::1 and port' in server.wait_for("= 9999: not used", 2)


def test_settings_that_name_the_very_sockets_that_were_passed_draw_no_warning(serve, listener, tmp_path):
    config = tmp_path / "forkserver.toml"
    config.write_text(f'bind = ["127.0.0.1:{listener.getsockname()[1]}"]\n')
    server = serve("--config", str(config), **adopting(listener))
    assert reload(server).stderr == ""
    assert not [line for line in server.log(" warning ") if "bind" in line]


def test_the_variables_of_socket_activation_are_not_left_for_the_master(serve, listener):
    server = serve(**adopting(listener))
    with open(f"/proc/{server.master_pid}/environ", "rb") as file:
        assert b"LISTEN_" not in file.read()


def test_started_with_its_standard_streams_closed_it_sends_no_client_its_log(root, listener):
    program = [sys.executable, "-m", "forkserver.front.cli", "serve", "--root", str(root), "--max-children", "1"]
    closing = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    command = [sys.executable, "-c", ADOPT, str(listener.fileno()), *closing, *program]
    with subprocess.Popen(command, pass_fds=[listener.fileno()]) as process:
        try:
            for _ in range(3):
                with socket.create_connection(listener.getsockname(), 20) as connection:
                    connection.sendall(b"PING\nPING\n")
                    connection.shutdown(socket.SHUT_WR)
                    lines = read_all(connection).splitlines()
                assert [line[:11] for line in lines] == [b"FS1 200 ok "] * 2
            assert {os.readlink(f"/proc/{process.pid}/fd/{fd}") for fd in range(3)} == {os.devnull}
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def serve_with(passed_fd: int, root: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a server to its end that is passed this descriptor as a listening socket."""
    program = [sys.executable, "-m", "forkserver.front.cli", "serve", "--root", str(root)]
    command = [sys.executable, "-c", ADOPT, str(passed_fd), *program]
    return subprocess.run(command, capture_output=True, pass_fds=[passed_fd], check=False, timeout=20)


def test_a_passed_socket_that_does_not_listen_is_refused_with_the_remedy(root):
    with socket.socket() as useless:
        run = serve_with(useless.fileno(), root)
    assert run.returncode == 78
    assert run.stderr.count(b"\n") == 1
    assert b"ListenStream=" in run.stderr


def test_a_master_that_dies_is_replaced_and_announced_again(serve):
    server = serve()
    first = server.master_pid
    os.kill(first, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    assert server.master_pid != first
    assert f"master-died pid={first} " in server.wait_for("master-died")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_masters_that_cannot_start_again_are_tried_again_later_each_time_and_say_why(serve, root):
    server = serve()
    away = root.with_name("away")
    root.rename(away)
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for("master-died", 3)
    complaints = server.log("master-died")
    assert "reason=" in complaints[1]
    assert "cannot be opened" in complaints[1]
    assert [line.rpartition("restart_s=")[2] for line in complaints[:3]] == ["0.0", "0.1", "0.2"]
    away.rename(root)
    server.wait_for(" ready ", 2)
    assert server.ask(b"GET /hello.txt\n").startswith(b"FS1 200 ok ")


def test_a_root_that_vanished_between_check_and_start_is_the_operators_error(root):
    shutil.rmtree(root)
    command = [sys.executable, "-c", LATE, str(root)]
    run = subprocess.run(command, capture_output=True, check=False, timeout=20)
    assert run.returncode == 78
    assert run.stderr.endswith(b"No such file or directory; give an existing directory\n")


LATE = """
import sys
from forkserver.errors import OperatorError
from forkserver.settings import Settings
from forkserver.supervisor import supervise
try:
    supervise.main(settings := Settings(root=sys.argv[1], port=0), lambda: settings)
except OperatorError as error:
    print(error, file=sys.stderr)
    sys.exit(78)
"""


def test_a_master_killed_by_a_signal_without_a_name_is_replaced_too(serve):
    server = serve()
    os.kill(server.master_pid, signal.SIGRTMIN + 2)
    assert "the master ended with signal-" in server.wait_for("master-died")
    server.wait_for(" ready ", 2)


def test_a_passing_shortage_of_descriptors_when_a_master_dies_is_survived(serve):
    server = serve()
    pid = server.process.pid
    have = len(os.listdir(f"/proc/{pid}/fd"))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (have, before[1]))
    os.kill(server.master_pid, signal.SIGKILL)
    assert "Too many open files" in server.wait_for("Too many open files")
    resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
    server.wait_for(" ready ", 2)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_masters_that_never_become_ready_again_end_the_supervisor_with_the_reason(tmp_path):
    command = [sys.executable, "-c", ONLY_ONCE + LATE, str(tmp_path), ONCE_READY, str(tmp_path / "once")]
    run = subprocess.run(command, capture_output=True, check=False, timeout=30)
    assert run.returncode == 78
    assert (
        b"no master became ready in 2 starts: the master ended with exit-3; remove the cause and restart\n"
        in run.stderr
    )


ONLY_ONCE = """
import sys
from forkserver.supervisor import generation, generations
generations.MAX_FAILED_STARTS = 2
generation.COMMAND = (sys.executable, "-c", sys.argv[2], sys.argv[3])
"""

ONCE_READY = """
import os, socket, sys
if not os.path.exists(sys.argv[1]):
    open(sys.argv[1], "w").close()
    channel = socket.socket(fileno=int(sys.argv[2]))
    channel.send(b"ready 0")
    channel.recv(4096)  # it has taken over
sys.exit(3)
"""


def test_a_child_it_was_born_with_is_no_orphan_and_lives_on(root):
    born_with = 'sleep 60 & echo $! >&2; exec "$@"'
    command = [sys.executable, "-m", "forkserver.front.cli", "serve", "--root", str(root), "--port", "0"]
    with subprocess.Popen(["/bin/sh", "-c", born_with, "sh", *command], stderr=subprocess.PIPE) as process:
        assert process.stderr
        sleeper = int(process.stderr.readline())
        try:
            while b" ready " not in process.stderr.readline():
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
            os.kill(sleeper, 0)
        finally:
            os.kill(sleeper, signal.SIGKILL)


def test_descriptors_announced_that_are_no_sockets_are_the_operators_error(root):
    with open(os.devnull, "rb") as useless:
        run = serve_with(useless.fileno(), root)
    assert run.returncode == 78
    assert b"LISTEN_FDS: descriptor 3 is no socket" in run.stderr


def test_a_reader_of_the_log_that_stalls_stops_neither_service_nor_stop(root, listener):
    program = [sys.executable, "-m", "forkserver.front.cli", "serve", "--root", str(root)]
    read_fd, write_fd = os.pipe()
    fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-c", ADOPT, str(listener.fileno()), *program]
    with subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=write_fd) as process:
        os.close(write_fd)
        for _ in range(60):
            with socket.create_connection(listener.getsockname(), 20) as connection:
                connection.sendall(b"PING\n")
                assert connection.recv(100).startswith(b"FS1 200 ok ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    os.close(read_fd)


BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_signals_that_were_blocked_when_it_was_started_are_heeded(serve):
    server = serve("--spare", "1", prefix=[sys.executable, "-c", BLOCKED])
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(" ready ", 2)
    assert server.stop() == 0


def test_stops_that_come_until_its_very_end_do_not_change_its_exit_status(serve):
    server = serve()
    while server.process.poll() is None:
        server.process.terminate()
    assert server.stop() == 0
    assert server.lines[-1].endswith(" stopped")
