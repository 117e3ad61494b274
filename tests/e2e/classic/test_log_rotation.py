"""The daemon's log is rotated by renaming, under load: no line is lost, and every new one is in the new file."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

CLIENTS = 8
REPOSITORY = Path(__file__).parents[3]
LOGROTATE = shutil.which("logrotate", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
ENDS = re.compile(r" end pid=(\d+) start=(\S+) peer=(\S+) ")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=[(), ("--connections-per-child", "20")], ids=["alone", "pool"])
def clients(request, server, fetchers, large):
    """Clients of a daemon that was started for them."""
    (server.root / "large").write_bytes(large)
    server.start(*request.param)
    return fetchers(server, CLIENTS)


@pytest.mark.parametrize("way", ["reopen", "reload", "SIGUSR1", "SIGHUP"])
def test_each_connection_has_one_line_in_one_of_the_files(server, clients, get, eventually, way):
    large = (server.root / "large").read_bytes()
    transfer = get(server, b"GET /large")
    clients.wait_for(CLIENTS)
    old = server.place / "log.1"
    server.log_path.rename(old)
    if way.startswith("SIG"):
        os.kill(server.pid, signal.Signals[way])
        # The new master accepts only after the old one has said that it accepts no more.
        eventually(lambda: " end " in server.log(), "a child that writes to the new file")
    else:
        assert server.run(way) == (0, "", "")
    after = server.ask(b"GET /hello.txt\n")
    clients.wait_for(CLIENTS)
    assert transfer.rest() == (large, b"FS1 END ok\n")
    clients.stop()
    assert (clients.wrong, clients.unanswered) == ([], 0)
    assert server.run("stop")[0] == 0
    written = [old.read_text(), server.log()]
    ends = Counter(ENDS.findall("".join(written)))
    assert set(ends.values()) == {1}
    assert len(ends) == len(clients.whole) + 2
    assert f" end pid={transfer.pid} " in written[0]
    pid = re.search(rb" pid=(\d+)", after)
    assert pid
    assert f" end pid={int(pid[1])} " in written[1]
    assert " drain " in written[1]
    assert written[1].endswith(" stopped\n")
    assert " drain " not in written[0]


def test_a_reload_that_cannot_reopen_the_log_says_so_and_is_done(server):
    server.start()
    old = server.place / "log.1"
    server.log_path.rename(old)
    server.log_path.mkdir()
    complaint = rf"--log-file: {server.log_path}: cannot reopen it: Is a directory; .*\n"
    status, out, err = server.run("reload")
    assert (status, out) == (0, "")
    assert re.fullmatch(f"forkserver: warning: {complaint}", err)
    status, out, err = server.run("reopen")
    assert (status, out) == (78, "")
    assert re.fullmatch(f"forkserver: {complaint}", err)
    server.log_path.rmdir()
    assert server.run("reopen") == (0, "", "")
    assert " ready " in server.log()


def test_a_daemon_that_does_not_run_has_nothing_to_reopen(server):
    assert server.run("reopen") == (0, "forkserver: not running\n", "")


def test_a_daemon_without_a_log_file_says_that_there_is_nothing_to_reopen(roots):
    status, _, err = roots.command("start", "--pid-file", str(roots.pid_path), "--port", "0", *roots.root_option)
    assert status == 0, err
    status, out, err = roots.run("reopen")
    assert (status, out) == (78, "")
    assert err.endswith("this server has no log file to reopen; start it with --log-file\n")


def rotate(server, wrapper: Path) -> None:
    """Run logrotate with the shipped sample, for this daemon, user and group."""
    state = server.place.stat()
    text = (REPOSITORY / "logrotate" / "forkserver").read_text()
    for shipped, here in (
        ("/var/log/forkserver.log", str(server.log_path)),
        ("/opt/forkserver/bin/forkserver", str(wrapper)),
        (" nobody nogroup", f" {state.st_uid} {state.st_gid}"),
    ):
        assert text.count(shipped) == 1
        text = text.replace(shipped, here)
    configuration = server.place / "logrotate.conf"
    configuration.write_text(text)
    os.chown(configuration, os.geteuid(), os.getegid())
    command = [str(LOGROTATE), "--force", "--state", str(server.place / "state"), str(configuration)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not LOGROTATE, reason="logrotate is not installed")
def test_logrotate_with_the_shipped_sample_loses_no_line(server, fetchers):
    wrapper = server.place / "forkserver"
    command = ["env", f"PYTHONPATH={server.modules}", *server.command_line]
    wrapper.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@" --pid-file {server.pid_path}\n')
    wrapper.chmod(0o755)
    rotate(server, wrapper)  # there is no log yet, nor a daemon
    server.start()
    clients = fetchers(server, CLIENTS)
    clients.wait_for(CLIENTS)
    rotate(server, wrapper)
    clients.wait_for(2 * CLIENTS)
    rotate(server, wrapper)
    clients.wait_for(2 * CLIENTS)
    clients.stop()
    assert (clients.wrong, clients.unanswered) == ([], 0)
    assert server.run("stop")[0] == 0
    assert sorted(path.name for path in server.place.glob("log*")) == ["log", "log.1", "log.2.gz", "logrotate.conf"]
    unpacked = subprocess.run(["gzip", "-dc", server.place / "log.2.gz"], capture_output=True, text=True, check=True)
    written = [unpacked.stdout, (server.place / "log.1").read_text(), server.log()]
    assert [f" generation={number} " in text for number, text in enumerate(written, 1)] == [True] * 3
    ends = Counter(ENDS.findall("".join(written)))
    assert set(ends.values()) == {1}
    assert len(ends) == len(clients.whole)
    assert not list(server.place.glob("log.3*"))
    rotate(server, wrapper)  # a daemon that is gone is no failure
