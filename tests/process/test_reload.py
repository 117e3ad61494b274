"""A reload is a new generation: what it takes over, what it leaves alone, and what becomes of a bad one."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from forkserver import __version__
from forkserver.errors import OperatorError
from forkserver.supervisor import operator

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path):
    """A configuration file, and a function that writes it anew."""
    path = tmp_path / "forkserver.toml"

    def write(text: str) -> str:
        path.write_text(text)
        return str(path)

    return write


def reload(server) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forkserver.front.cli", "reload", "--pid", str(server.process.pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


def test_a_reload_takes_new_settings_over_and_keeps_socket_and_pid(serve, config, root):
    server = serve("--config", config("hidden = false\n"))
    (root / ".secret").write_text("s")
    first = server.master_pid
    assert server.ask(b"GET /.secret\n").startswith(b"FS1 404 ")
    config("hidden = true\n")
    done = reload(server)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    server.wait_for(" ready ", 2)
    assert server.master_pid != first
    assert server.ask(b"GET /.secret\n").startswith(b"FS1 200 ")
    server.wait_until(lambda: not os.path.exists(f"/proc/{first}"), "end of the old master")
    assert not server.log("master-died")


def test_a_reload_serves_the_directory_that_has_taken_the_place_of_the_root(serve, config, root):
    server = serve("--config", config(""))
    root.rename(root.with_name("before"))
    root.mkdir()
    (root / "new.txt").write_text("new")
    assert server.ask(b"GET /new.txt\n").startswith(b"FS1 404 ")
    assert reload(server).returncode == 0
    assert server.ask(b"GET /new.txt\n").startswith(b"FS1 200 ")


def test_a_hangup_reloads_too(serve, config):
    server = serve("--config", config("max_children = 5\n"))
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(" ready ", 2)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("prot = 2057\n", "did you mean port?"),
        ("max_children = 0\n", "out of bounds"),
        ("this is not TOML", "is not TOML"),
        ("spare = 300\n", "is more than max_children"),
        ('bind = ["192.0.2.1"]\n', "this machine has no such address"),
    ],
)
def test_a_bad_reload_changes_nothing_and_fails_with_the_reason(serve, config, text, complaint):
    server = serve("--config", config(""))
    first = server.master_pid
    config(text)
    done = reload(server)
    assert done.returncode == 78
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert complaint in server.wait_for("reload-failed")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    assert (server.master_pid, len(server.log(" ready "))) == (first, 1)


def test_a_transfer_that_spans_reloads_is_whole(serve, config, root):
    content = os.urandom(1 << 20) * 16
    (root / "big").write_bytes(content)
    server = serve("--config", config(""))
    with server.connect() as connection:
        connection.sendall(b"GET /big\n")
        received = connection.recv(100)
        for count in range(2, 5):
            assert reload(server).returncode == 0
            server.wait_for(" ready ", count)
        connection.shutdown(socket.SHUT_WR)
        received += b"".join(iter(lambda: connection.recv(1 << 20), b""))
    assert received.partition(b"\n")[2] == content + b"FS1 END ok\n"


def test_addresses_can_come_and_go(serve, config):
    server = serve("--config", config('bind = ["127.0.0.1"]\n'))
    config('bind = ["127.0.0.1", "[::1]:0"]\n')
    assert reload(server).returncode == 0
    address = re.search(r"address=127\.0\.0\.1:(\d+),\[::1\]:(\d+) ", server.wait_for(" ready ", 2))
    assert address
    assert int(address[1]) == server.port, "what was there is kept as it is"
    with socket.create_connection(("::1", int(address[2])), 20) as connection:
        connection.sendall(b"PING\n")
        assert connection.recv(100).startswith(b"FS1 200 ok ")
    config('bind = ["127.0.0.1"]\n')
    assert reload(server).returncode == 0
    server.wait_for(" ready ", 3)
    server.wait_until(lambda: refuses("::1", int(address[2])), "end of the address")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 20).close()
    except ConnectionRefusedError:
        return True
    return False


def test_children_of_older_generations_count_against_the_limit(serve, config, root):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", config("max_children = 2\nmax_per_peer = 9\n"))
    with server.connect() as one, server.connect() as other, server.connect() as third:
        for connection in (one, other):
            connection.sendall(b"GET /big\n")
            connection.recv(100)
        assert reload(server).returncode == 0
        server.wait_for(" ready ", 2)
        third.sendall(b"PING\n")
        third.settimeout(0.5)
        with pytest.raises(TimeoutError):
            third.recv(100)
        one.close()
        third.settimeout(20)
        assert third.recv(100).startswith(b"FS1 200 ok ")


def test_connections_of_older_generations_count_against_the_limit_of_their_peer(serve, config, root):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", config("max_per_peer = 2\n"))
    with server.connect() as one, server.connect() as other:
        for connection in (one, other):
            connection.sendall(b"GET /big\n")
            connection.recv(100)
        for count in (2, 3):
            assert reload(server).returncode == 0
            server.wait_for(" ready ", count)
            assert server.ask(b"").startswith(b"FS1 429 ")
        with socket.create_connection((server.host, server.port), 20, ("127.0.0.2", 0)) as another:
            another.sendall(b"PING\n")
            assert another.recv(100).startswith(b"FS1 200 ok ")
        one.close()
        with server.wait_until(lambda: admitted(server), "one place for the peer"):
            assert server.ask(b"").startswith(b"FS1 429 ")


def admitted(server) -> socket.socket | None:
    """A connection that is kept, unless the server refuses it."""
    connection = server.connect()
    connection.sendall(b"PING\n")
    if connection.recv(100).startswith(b"FS1 200 ok "):
        return connection
    connection.close()
    return None


def test_a_master_that_dies_while_it_drains_takes_its_count_of_peers_along(serve, config, root):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", config("max_per_peer = 1\n"))
    first = server.master_pid
    with server.connect() as connection:
        connection.sendall(b"GET /big\n")
        connection.recv(100)
        assert reload(server).returncode == 0
        server.wait_for(" ready ", 2)
        assert server.ask(b"").startswith(b"FS1 429 ")
        os.kill(first, signal.SIGKILL)
        server.wait_until(lambda: not server.ask(b"").startswith(b"FS1 429 "), "the end of its count")


def test_many_reloads_lose_no_connection(serve, config):
    server = serve("--config", config(""))
    pids = set()
    for count in range(2, 12):
        server.process.send_signal(signal.SIGHUP)
        while len(server.log(" ready ")) < count:
            answer = server.ask(b"PING\n")
            assert answer.startswith(b"FS1 200 ok "), answer
            pids.add(answer.split(b" pid=")[1].split()[0])
    assert len(pids) >= 10


def test_a_master_whose_loop_does_not_turn_is_replaced(serve):
    server = serve()
    os.kill(server.master_pid, signal.SIGSTOP)
    server.wait_for("master-stuck")
    server.wait_for(" ready ", 2)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_who_is_no_forkserver_cannot_be_asked():
    with pytest.raises(OperatorError, match="no forkserver of this machine has the PID 1;"):
        operator.ask(1, operator.RELOAD, 5)


# A supervisor whose masters go on only once somebody has opened the gate, where there is one.
GATED = """
import sys
from forkserver.front import cli
from forkserver.supervisor import generation
generation.COMMAND = (sys.executable, "-c", *sys.argv[1:3])
del sys.argv[1:sys.argv.index("serve")]
cli.main()
"""

GATE = """
import os, sys
from forkserver.master import __main__
if os.path.exists(sys.argv[1]):
    os.close(os.open(sys.argv[1], os.O_RDONLY))
sys.exit(__main__.main(int(sys.argv[2])))
"""


@pytest.fixture
def reloading(serve, config, tmp_path):
    """A server in the middle of a reload, and the gate that its new master waits at."""
    gate = tmp_path / "gate"
    server = serve("--config", config(""), prefix=[sys.executable, "-c", GATED, GATE, str(gate)])
    os.mkfifo(gate)
    server.process.send_signal(signal.SIGHUP)
    server.wait_until(lambda: len(children_of(server.process.pid)) == 2, "a second master")
    return server, gate


def test_who_asks_during_a_reload_gets_another_one_and_its_own_answer(reloading, config):
    server, gate = reloading
    config("prot = 1\n")
    with concurrent.futures.ThreadPoolExecutor() as asking:
        server.process.send_signal(signal.SIGHUP)
        answers = [asking.submit(operator.ask, server.process.pid, operator.RELOAD, 20) for _ in range(2)]
        with pytest.raises(TimeoutError):
            answers[0].result(0.2)
        os.close(os.open(gate, os.O_WRONLY))
        server.wait_for(" ready ", 2)
        for answer in answers:
            with pytest.raises(OperatorError, match=r"did you mean port\?"):
                answer.result(20)


def test_a_reload_that_waits_when_the_server_is_stopped_fails(reloading):
    server, gate = reloading
    with concurrent.futures.ThreadPoolExecutor() as asking:
        answer = asking.submit(operator.ask, server.process.pid, operator.RELOAD, 20)
        with pytest.raises(TimeoutError):
            answer.result(0.2)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(OperatorError, match="is being stopped"):
            answer.result(20)
        os.close(os.open(gate, os.O_WRONLY))
    assert server.stop() == 0
    assert not server.log(" ready ")[1:]


# Takes the name that a server will have when it becomes this very process, and keeps it.
SQUAT = """
import os, socket, sys
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as squatter:
    squatter.bind(b"\\0forkserver/%d" % os.getpid())
    if os.fork() == 0:
        squatter.listen()
        os.setuid(int(sys.argv[1]))
        while True:
            asking = squatter.accept()[0]
            asking.send(b"done")
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("uid", [os.geteuid(), 65534] if os.geteuid() == 0 else [os.geteuid()])
def test_a_server_whose_name_another_process_has_taken_serves_and_is_not_mistaken_for_it(serve, uid):
    server = serve(prefix=[sys.executable, "-c", SQUAT, str(uid)])
    pid = server.process.pid
    assert f"@forkserver/{pid}: cannot listen there: " in server.wait_for("`forkserver reload` does not work")
    done = reload(server)
    assert done.returncode == 78
    assert re.search(rf"what answers in its place is PID \d+ of user \d+; use `kill -HUP {pid}`\n", done.stderr)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(" ready ", 2)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")
    for child in set(children_of(pid)) - {server.master_pid}:
        os.kill(child, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
        return [int(child) for child in file.read().split()]


def test_a_channel_crowded_by_those_who_ask_nothing_still_hears_who_asks(serve):
    server = serve()
    name = operator.address(server.process.pid)
    with contextlib.ExitStack() as crowd:
        for _ in range(100):
            silent = crowd.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            silent.connect(name)
        operator.ask(server.process.pid, operator.RELOAD, 20)


def test_who_asks_waits_for_a_place_in_a_full_backlog():
    with contextlib.ExitStack() as stack:
        listener, silent = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(2))
        listener.bind(operator.address(os.getpid()))
        listener.listen(0)
        silent.connect(listener.getsockname())
        asking = stack.enter_context(concurrent.futures.ThreadPoolExecutor())
        answer = asking.submit(operator.ask, os.getpid(), operator.RELOAD, 20)
        with pytest.raises(TimeoutError):
            answer.result(0.2)
        listener.accept()[0].close()
        with listener.accept()[0] as connection:
            assert connection.recv(100) == operator.RELOAD
            connection.send(b"done")
            answer.result(20)


def test_a_full_backlog_is_not_waited_for_for_ever():
    with contextlib.ExitStack() as stack:
        listener, silent = (stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) for _ in range(2))
        listener.bind(operator.address(os.getpid()))
        listener.listen(0)
        silent.connect(listener.getsockname())
        with pytest.raises(OperatorError, match=r"gave no answer in 0\.1 s"):
            operator.ask(os.getpid(), operator.RELOAD, 0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a network namespace")
def test_who_has_a_network_of_its_own_is_to_be_asked_by_systemctl():
    apart = ["unshare", "--net", "sh", "-c", "echo; read line"]
    with subprocess.Popen(apart, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        with pytest.raises(OperatorError, match=f"PID {process.pid} has a network of its own.*`systemctl reload "):
            operator.ask(process.pid, operator.RELOAD, 5)
        process.communicate(b"\n")


def test_without_a_server_that_holds_the_pid_file_nothing_is_reloaded(tmp_path):
    command = [sys.executable, "-m", "forkserver.front.cli", "reload", "--pid-file", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 78
    assert done.stderr.endswith("no server holds this PID file; name another file, or give --pid\n")


def test_the_operator_learns_at_once_what_is_served_by_whom(serve, config, root):
    server = serve("--config", config("max_children = 7\n"))

    def told() -> str:
        return operator.ask(server.process.pid, operator.STATUS, 20)

    where = f"serving {root} on 127.0.0.1:{server.port}, version {__version__}"
    assert told() == f"{where}, generation 1, 0 of 7 children, 0 served"
    config("max_children = 9\n")
    assert reload(server).returncode == 0
    assert re.fullmatch(re.escape(f"{where}, generation 2, ") + r"0 of 9 children, \d+ served", told())


def test_the_operator_learns_that_the_server_drains(serve, config, root):
    (root / "big").write_bytes(bytes(1 << 26))
    server = serve("--config", config("drain_s = 20\n"))
    with server.connect() as connection:
        connection.sendall(b"GET /big\n")
        connection.recv(100)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(" drain ")
        assert operator.ask(server.process.pid, operator.STATUS, 20) == "draining, for 20 s at most"


def test_what_is_no_word_of_the_operators_is_refused(serve):
    server = serve()
    with pytest.raises(OperatorError, match="only `reload`, `reopen` and `status` can be asked for"):
        operator.ask(server.process.pid, b"nonsense", 20)


def test_another_user_may_not_ask(serve, other_user):
    server = serve()
    code = f"from forkserver.supervisor import operator; operator.ask({server.process.pid}, operator.RELOAD, 20)"
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        user=other_user,
        group=other_user,
        extra_groups=[],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "only root and its own user may ask" in done.stderr
    assert len(server.log(" ready ")) == 1
