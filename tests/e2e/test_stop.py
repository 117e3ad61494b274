"""Stopping a server, and settings that keep it from starting: what is finished, what is broken off, what is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_a_transfer_finish_and_then_nothing_is_left(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, get, large, backlog, eventually, number
):
    (root / "large").write_bytes(large)
    server = serve()
    transfer = get(server, b"GET /large digest=sha256")
    family = [server.process.pid, server.master_pid, *server.children()]
    assert transfer.pid in family
    server.process.send_signal(number)
    assert f" drain reason={number.name} " in server.wait_for(" drain ")
    eventually(lambda: backlog(server) is None, "nobody listens")
    with pytest.raises(ConnectionRefusedError):
        server.connect()
    assert server.process.poll() is None, "it waits for the transfer"
    content, trailer = transfer.rest()
    assert content == large
    assert trailer.startswith(b"FS1 END ok digest=sha256:")
    transfer.close()
    assert server.process.wait(20) == 0
    assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]
    server.stop()
    assert server.lines[-1].endswith(" stopped")
    assert len(server.log(" end ")) == 1


def test_a_fsget_finishes_while_the_server_stops(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, begin, relay, place, large
):
    (root / "large").write_bytes(large)
    server = serve()
    held = relay(server)
    run = begin(held, "large")
    server.wait_until(lambda: held.heads, "a transfer in progress")
    server.process.terminate()
    server.wait_for(" drain ")
    held.release()
    assert (run.result().status, run.result().err) == (0, "")
    assert (place / "large").read_bytes() == large
    assert server.process.wait(20) == 0


@pytest.mark.parametrize("options", [(), ("--spare", "2", "--connections-per-child", "9")], ids=["forked", "spare"])
def test_connections_that_wait_in_the_backlog_are_served_before_the_end(  # noqa: PLR0913, PLR0917 - fixtures
    serve, root, get, large, connect, backlog, eventually, options
):
    (root / "large").write_bytes(large)
    server = serve("--max-children", "2", "--max-per-peer", "100", *options)
    transfers = [get(server, b"GET /large") for _ in range(2)]
    waiting = [connect(server) for _ in range(5)]
    for connection in waiting:
        connection.sendall(b"GET /hello.txt\n")
    eventually(lambda: backlog(server) == len(waiting), "five wait in the backlog")
    server.process.terminate()
    server.wait_for(" drain ")
    for transfer in transfers:
        assert transfer.rest() == (large, b"FS1 END ok\n")
        transfer.close()
    for connection in waiting:
        with connection, connection.makefile("rb") as file:
            assert file.read().endswith(b"\nHello, world\nFS1 END ok\n")
    assert server.process.wait(20) == 0
    server.stop()
    assert len(server.log(" end ")) == len(transfers) + len(waiting)


@pytest.mark.parametrize("options", [(), ("--max-children", "3", "--max-per-peer", "3")], ids=["room", "full"])
def test_idle_connections_are_closed_at_once(serve, connect, options):
    server = serve(*options)
    connections = [connect(server) for _ in range(3)]
    for connection in connections:
        connection.sendall(b"PING\n")
        assert connection.recv(4096).startswith(b"FS1 200 ok ")
    stopped_at = time.monotonic()
    server.process.terminate()
    for connection in connections:
        with connection:
            assert connection.recv(4096) == b""
    assert server.process.wait(20) == 0
    assert time.monotonic() - stopped_at < 5, "far from idle_s and drain_s"
    server.stop()
    assert len(server.log(" end ")) == len(connections)


def test_a_request_that_has_begun_is_answered_before_the_end(serve):
    server = serve()
    with server.connect() as connection:
        connection.sendall(b"GET /hel")
        server.wait_until(server.children, "a child")
        server.process.terminate()
        server.wait_for(" drain ")
        connection.sendall(b"lo.txt\n")
        with connection.makefile("rb") as file:
            assert file.read().endswith(b"\nHello, world\nFS1 END ok\n")
    assert server.process.wait(20) == 0


def test_a_transfer_that_outlasts_the_drain_ends_in_a_trailer_that_says_so(serve, root, get, configuration):
    with (root / "endless").open("wb") as file:
        file.truncate(1 << 40)
    server = serve(*configuration("drain_s = 0.3"))
    transfer = get(server, b"GET /endless")
    server.process.terminate()
    # The client takes what it gets: only the end of the patience ends this.
    received, trailer = transfer.discard()
    assert trailer == f'FS1 END draining sent={received} message="the server is being stopped"\n'.encode()
    transfer.close()
    assert server.process.wait(20) == 0
    server.stop()
    assert f" outcome=draining sent={received} promised={1 << 40} " in server.log(" end ")[0]


def test_a_stalled_transfer_does_not_outlast_the_drain_for_long(serve, root, get, large, configuration):
    (root / "large").write_bytes(large)
    server = serve(*configuration("drain_s = 0.5"))
    transfer = get(server, b"GET /large")
    stopped_at = time.monotonic()
    server.process.terminate()
    assert server.process.wait(20) == 0
    assert 0.5 < time.monotonic() - stopped_at < 5
    server.stop()
    content, trailer = transfer.rest()
    assert large.startswith(content)
    # Whether there still is room for the trailer in the sockets, the child cannot choose.
    if trailer:
        assert f" sent={len(content)} " in trailer.decode()
        assert len(server.log(f" end pid={transfer.pid} ")) == len(server.log(" outcome=draining ")) == 1
    else:
        assert len(server.log(f" died pid={transfer.pid} cause=SIGTERM ")) == 1


def test_a_listing_that_takes_long_over_links_that_lead_nowhere_is_broken_off(serve, root):
    # Each link costs some ten milliseconds of walking, and gives no line.
    deep = "/".join("d" * 20)
    (root / deep / "e").mkdir(parents=True)
    (root / "more").symlink_to(deep + "/e/.." * 700)
    for number in range(1500):
        os.link(root / "more", root / f"link-{number}", follow_symlinks=False)
    server = serve()
    with server.connect() as connection, connection.makefile("rb") as answer:
        connection.sendall(b"LIST /\n")
        assert answer.readline().startswith(b"FS1 200 ")
        server.process.send_signal(signal.SIGTERM)
        server.wait_for(" drain ")
        server.process.send_signal(signal.SIGTERM)
        assert answer.read().splitlines()[-1].startswith(b"FS1 END draining")
    assert server.process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once_what_the_first_would_wait_for(serve, root, get, large, number):
    (root / "large").write_bytes(large)
    server = serve()
    transfer = get(server, b"GET /large")
    server.process.terminate()
    assert " drain_s=30.0" in server.wait_for(" drain ")
    asked_again_at = time.monotonic()
    server.process.send_signal(number)
    assert server.process.wait(20) == 0
    assert time.monotonic() - asked_again_at < 5
    server.stop()
    lines = server.log(f" end pid={transfer.pid} ") + server.log(f" died pid={transfer.pid} ")
    assert len(lines) == 1, "one `end` or `died`"
    assert not Path(f"/proc/{transfer.pid}").exists()


def test_a_ctrl_c_at_the_terminal_reaches_the_supervisor_alone(serve, root, get, large):
    (root / "large").write_bytes(large)
    server = serve()
    transfer = get(server, b"GET /large")
    group = os.getpgid(server.process.pid)
    # The terminal signals all of its foreground group: neither master nor child is in it.
    assert os.getpgid(server.master_pid) != group
    assert os.getpgid(transfer.pid) != group
    # Nor does a signal that somebody sends to the master by hand cut a transfer.
    os.kill(server.master_pid, signal.SIGINT)
    os.kill(transfer.pid, signal.SIGINT)
    server.process.send_signal(signal.SIGINT)
    server.wait_for(" drain reason=SIGINT ")
    assert transfer.rest() == (large, b"FS1 END ok\n")
    transfer.close()
    assert server.process.wait(20) == 0


def run_serve(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "forkserver.front.cli", "serve", *options],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("max_childern = 9", "max_children"),
        ('port = "2057"', "whole number"),
        ("max_children = 0", "from 1 to"),
        ("bind = '127.0.0.1'", "list"),
        ("spare = 9\nmax_children = 8", "lower it"),
        ("port = ", "TOML"),
    ],
)
def test_wrong_settings_are_one_line_with_the_remedy(root, configuration, text, remedy):
    option, path = configuration(text)
    result = run_serve("--root", str(root), option, path)
    assert_is_complaint(result, remedy)
    assert "forkserver.toml" in result.stderr


def test_a_port_in_use_is_one_line_with_the_remedy(root):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run_serve("--root", str(root), "--port", str(port))
    assert_is_complaint(result, "choose another port")
    assert str(port) in result.stderr


def test_a_missing_root_is_one_line_with_the_remedy(root):
    assert_is_complaint(run_serve("--root", str(root / "nowhere"), "--port", "0"), "name another directory")


def test_a_root_that_is_a_file_is_one_line_with_the_remedy(root):
    assert_is_complaint(run_serve("--root", str(root / "hello.txt"), "--port", "0"), "name another directory")


def test_an_address_of_another_machine_is_one_line_with_the_remedy(root):
    result = run_serve("--root", str(root), "--bind", "192.0.2.1", "--port", "0")
    assert_is_complaint(result, "this machine has no such address")


def test_a_missing_configuration_file_is_one_line(root, tmp_path):
    assert_is_complaint(run_serve("--root", str(root), "--config", str(tmp_path / "no.toml")), "no.toml")


def assert_is_complaint(result: subprocess.CompletedProcess[str], remedy: str) -> None:
    assert result.returncode == 78, result.stderr
    assert result.stdout == ""
    # Root is warned, in a line of the log, before anything else.
    complaint, *more = [line for line in result.stderr.splitlines() if " warning reason=" not in line]
    assert complaint.startswith("forkserver: ")
    assert remedy in complaint
    assert not more
