"""The life of the service under a real systemd: every promise of docs/operations.md."""

from __future__ import annotations

import hashlib
import re
import shlex
import socket
import time

import pytest

STATUS = re.compile(
    r"serving /srv/files on 0\.0\.0\.0:2057,\s?\[::\]:2057, version \S+, generation (\d+), "
    r"\d+ of 256 children, [\d,]+ served(, .*)?\Z"
)


def pid_that_answers(host, address: str = "127.0.0.1") -> int:
    found = re.match(rb"FS1 200 ok pid=(\d+) ", host.ask(b"PING", address))
    assert found
    return int(found[1])


def test_enabled_it_serves_after_the_boot(host) -> None:
    assert host.run("systemctl", "is-enabled", "forkserver.service", "forkserver.socket").stdout.split() == [
        "enabled",
        "enabled",
    ]
    assert host.state_after_boot == "active"
    assert pid_that_answers(host) != pid_that_answers(host, "::1")


def test_enabled_by_the_steps_it_can_be_read_by_all_and_its_commands_are_on_the_path(host) -> None:
    settings = ("--config", "/etc/forkserver/forkserver.toml")
    assert 'root = "/srv/files"' in host.run("forkserver", "check", "--user", "nobody", *settings).stdout
    told = host.run("forkserver", "status", check=False)
    expected = "forkserver: not running; of the service under systemd use `systemctl status forkserver`\n"
    assert (told.returncode, told.stdout) == (3, expected)
    started = host.run("forkserver", "start", "--user", "nobody", "--port", "0", *settings)
    assert "started, PID" in started.stdout, "and the classic daemon beside it"
    assert host.run("forkserver", "restart", "--user", "nobody", "--port", "0", *settings).stderr == ""
    host.run("forkserver", "reload")
    host.run("forkserver", "stop")


def test_a_service_that_is_disabled_is_so_after_the_next_boot_too(service) -> None:
    units = ("forkserver.socket", "forkserver.service")
    service.run("systemctl", "disable", "--now", "forkserver.socket", "forkserver")
    assert [service.show("ActiveState", unit) for unit in units] == ["inactive"] * 2
    assert service.run("systemctl", "is-enabled", *units, check=False).stdout.split() == ["disabled"] * 2
    service.run("systemctl", "enable", "forkserver")
    assert service.run("systemctl", "is-enabled", *units).stdout.split() == ["enabled"] * 2


def test_the_status_is_a_sentence(service) -> None:
    assert STATUS.match(service.show("StatusText"))


def test_when_a_reload_has_returned_the_status_is_that_of_the_new_generation(service) -> None:
    for _ in range(5):
        before = STATUS.match(service.show("StatusText"))
        service.run("systemctl", "reload", "forkserver.service")
        after = STATUS.match(service.show("StatusText"))
        assert before
        assert after
        assert int(after[1]) == int(before[1]) + 1


@pytest.fixture
def configure(service):
    """``configure(text)``: write the service's configuration file for one test."""
    path = "/etc/forkserver/forkserver.toml"
    before = service.run("cat", path).stdout

    def write(text: str) -> None:
        service.run("sh", "-c", f"printf %s {shlex.quote(text)} >{path}")

    yield write
    write(before)
    service.run("systemctl", "reload", "forkserver.service")


def test_an_address_in_the_settings_is_told_of_as_not_used_by_check_start_and_reload(service, configure) -> None:
    configure('root = "/srv/files"\nport = 9999\n')
    told = service.run("forkserver", "check", "--config", "/etc/forkserver/forkserver.toml")
    assert "port = 9999\n" in told.stdout
    assert "not used by the service: port: systemd passes the sockets" in told.stderr
    began = service.now()
    service.run("systemctl", "reload", "forkserver.service")
    # Once as a line of the log, once as the answer to `forkserver reload`, which ExecReload= runs.
    lines = service.journal(began, "--grep=port = 9999: not used").splitlines()
    assert len(lines) == 2
    began = service.now()
    service.run("systemctl", "restart", "forkserver.service")
    assert "port = 9999: not used" in service.journal(began, "--grep=^warning ")
    assert pid_that_answers(service)


def test_a_stop_ends_all_with_status_0(service) -> None:
    pids = service.pids()
    assert len(pids) >= 2
    service.run("systemctl", "stop", "forkserver.socket", "forkserver.service")
    assert [service.show(name) for name in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
    assert service.pids() == []


def test_a_transfer_may_take_longer_to_end_than_the_unit_allows(service, drop_in) -> None:
    drop_in("TimeoutStopSec=1\n")
    service.run("systemctl", "restart", "forkserver.service")
    service.run("truncate", "--size", "64M", "/srv/files/large")
    with socket.create_connection(("127.0.0.1", 2057), 20) as connection, connection.makefile("rb") as answer:
        connection.sendall(b"GET /large\n")
        assert answer.readline().startswith(b"FS1 200 ")
        service.run("systemctl", "stop", "--no-block", "forkserver.service")
        service.wait_until(lambda: service.show("StatusText").startswith("draining"), "the drain")
        time.sleep(1.5)  # the unit's time is over
        assert service.show("ActiveState") == "deactivating"
        assert len(answer.read(64 << 20)) == 64 << 20
        assert answer.readline() == b"FS1 END ok\n"
    service.wait_until(lambda: service.show("ActiveState") == "inactive", "the end")
    assert service.show("Result") == "success"


def test_the_first_connection_starts_it(service) -> None:
    service.run("systemctl", "stop", "forkserver.service")
    assert service.show("ActiveState") == "inactive"
    assert pid_that_answers(service)
    assert service.show("ActiveState") == "active"


@pytest.mark.timeout(300)
def test_restarts_under_load_lose_no_connection(service, load) -> None:
    # A drain accepts what comes while it lasts. With many more clients on a busy machine it would take all of drain_s.
    clients = load(8)
    mains = [service.show("MainPID")]
    for _ in range(3):
        service.run("systemctl", "restart", "forkserver.service")
        mains.append(service.show("MainPID"))
        clients.wait_for_more(32)
    assert clients.stop() > 100
    assert len(set(mains)) == 4


# A reload takes a tenth of a second, and half of one where the load, or others, have the processors.
@pytest.mark.timeout(300)
def test_fifty_reloads_under_load_cost_no_fetch_and_cut_no_transfer(service, load, hold) -> None:
    # More than the sockets take in, and than is read below before the last reload has ended.
    service.run("sh", "-c", "head -c 20M /dev/urandom >/srv/files/spanning")
    transfer = hold(b"GET /spanning digest=sha256")
    head = transfer.head()
    content = hashlib.sha256()
    left = 20 << 20
    clients = load(16)
    main, began = service.show("MainPID"), service.now()
    loop = "for i in $(seq 50); do systemctl reload forkserver.service && echo done || exit 1; done"
    with service.start("sh", "-c", loop) as reloads:
        for _ in reloads.stdout:
            piece = transfer.piece(65536)
            content.update(piece)
            left -= len(piece)
        assert reloads.stderr.read() == ""
    ready = service.journal(began, "--grep=^ready ")
    pid = re.findall(rb" pid=(\d+) ", head)[0].decode()
    assert service.journal(began, f"--grep=^end pid={pid} ") == "", "the transfer is still in progress"
    rest = transfer.rest()
    content.update(rest[:left])
    assert rest[left:] == b"FS1 END ok digest=sha256:" + content.hexdigest().encode() + b"\n"
    assert service.run("sha256sum", "/srv/files/spanning").stdout.split()[0] == content.hexdigest()
    clients.wait_for_more(16)
    clients.stop()
    assert len(set(re.findall(r" master_pid=(\d+)", ready))) == 50
    assert service.show("MainPID") == main


def test_forkserver_reload_says_why_it_cannot_reach_the_service(service) -> None:
    done = service.run("/opt/forkserver/bin/forkserver", "reload", "--pid", service.show("MainPID"), check=False)
    assert done.returncode == 78
    assert re.fullmatch(r"forkserver: PID \d+ has a network of its own, .*`systemctl reload forkserver`\n", done.stderr)


def test_a_stopped_master_is_replaced(service, load) -> None:
    clients = load(16, retries=30)
    began = service.now()
    main, master = service.show("MainPID"), service.master_pid()
    service.run("kill", "-STOP", str(master))
    service.wait_until(lambda: service.master_pid() != master, "another master")
    assert f"master-stuck pid={master} " in service.journal(began)
    clients.wait_for_more(32)
    clients.stop()
    assert service.show("MainPID") == main
    assert master not in service.pids()


def test_a_killed_master_fails_no_fetch(service, load) -> None:
    clients = load(16, retries=30)
    main, master = service.show("MainPID"), service.master_pid()
    service.run("kill", "-KILL", str(master))
    service.wait_until(lambda: service.master_pid() != master, "another master")
    clients.wait_for_more(32)
    clients.stop()
    assert service.show("MainPID") == main


def test_a_killed_supervisor_is_started_again_and_nothing_of_the_old_remains(service, load) -> None:
    clients = load(16, retries=30, again=True)
    old = service.pids()
    service.run("kill", "-KILL", str(old[0]))
    service.wait_until(lambda: service.show("MainPID") not in {"0", str(old[0])}, "another supervisor")
    clients.wait_for_more(32)
    clients.stop()
    assert clients.lost <= 16
    assert not set(old) & set(service.pids())
    assert service.run("ps", "--pid", ",".join(map(str, old)), check=False).stdout.splitlines()[1:] == []


def test_a_stopped_supervisor_is_caught_by_the_watchdog(service, drop_in, load) -> None:
    drop_in("WatchdogSec=1\n")
    service.run("systemctl", "restart", "forkserver.service")
    main = service.show("MainPID")
    service.run("kill", "-STOP", main)
    service.wait_until(lambda: "Failed with result 'watchdog'" in service.journal(), "the watchdog")
    service.wait_until(lambda: service.show("ActiveState") == "active", "active again")
    assert service.show("MainPID") != main
    load(1).stop()


def test_the_watchdog_lets_it_live_that_turns(service, drop_in) -> None:
    drop_in("WatchdogSec=300ms\n")
    service.run("systemctl", "restart", "forkserver.service")
    main = service.show("MainPID")
    for _ in range(5):
        beat = service.show("WatchdogTimestampMonotonic")
        service.wait_until(lambda beat=beat: service.show("WatchdogTimestampMonotonic") != beat, "another beat")
    assert service.show("MainPID") == main


def test_a_bad_configuration_is_told_and_once_mended_served(service, drop_in) -> None:
    service.run("systemctl", "stop", "forkserver.service")
    drop_in("ExecStart=\nExecStart=/opt/forkserver/bin/forkserver serve --root /nowhere\n")
    assert service.run("systemctl", "start", "forkserver.service", check=False).returncode == 1
    assert "root: " in service.journal()
    drop_in("")
    service.wait_until(lambda: service.show("ActiveState") == "active", "active, without another start")
    assert pid_that_answers(service)


@pytest.mark.parametrize("unit", ["forkserver.service", "forkserver.socket"])
def test_systemd_finds_no_fault_with(host, unit: str) -> None:
    done = host.run("systemd-analyze", "verify", unit)
    assert done.stdout + done.stderr == ""


def test_systemd_counts_it_as_safe(host) -> None:
    told = host.run("systemd-analyze", "security", "--no-pager", "forkserver.service").stdout
    found = re.search(r"Overall exposure level for forkserver\.service: ([\d.]+)", told)
    assert found
    assert float(found[1]) <= 1.0
