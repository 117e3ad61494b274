"""What the log tells of transfers that were cut when the supervisor was killed, by the tables that systemd kept."""

from __future__ import annotations

import re

CAUSE = " cause=server-died "


def fields(line: str) -> dict[str, str]:
    return dict(re.findall(r" (\w+)=(\S+)", line))


def kill_supervisor(service) -> None:
    old = service.show("MainPID")
    service.run("kill", "-KILL", old)
    service.wait_until(lambda: service.show("MainPID") not in {"0", old}, "another supervisor")
    service.wait_until(lambda: service.show("ActiveState") == "active", "active again")


def cut(service, began: str) -> dict[str, dict[str, str]]:
    """The fields of the lines about connections that were cut, by peer."""
    lines = [line for line in service.journal(began, "--grep=^died ").splitlines() if CAUSE in line]
    found = {fields(line)["peer"]: fields(line) for line in lines}
    assert len(found) == len(lines), lines
    return found


def stored(service) -> int:
    return int(service.show("NFileDescriptorStore"))


def test_each_connection_that_was_cut_with_the_supervisor_has_one_line(narrow, hold) -> None:
    service, began = narrow, narrow.now()
    assert stored(service) == 1
    held = [hold(b"GET /file digest=sha256", f"127.0.2.{number}") for number in range(1, 9)]
    heads = [each.head().decode() for each in held]
    waiting = hold(b"GET /file length=1000", "127.0.2.100", half_close=False)
    assert waiting.head().startswith(b"FS1 200 ")
    for _ in range(3):
        assert service.ask(b"GET /file digest=sha256").startswith(b"FS1 200 ")
    service.wait_until(lambda: service.journal(began, "--grep=^receipt ").count("\n") == 3, "three have ended")
    kill_supervisor(service)
    found = cut(service, began)
    assert set(found) == {each.peer for each in [*held, waiting]}
    for each, head in zip(held, heads, strict=True):
        line, told = found[each.peer], dict(re.findall(r" (\w+)=(\S+)", head))
        assert (line["pid"], line["start"]) == (told["pid"], told["start"])
        assert (line["request"], line["path"], line["connections"], line["requests"]) == ("GET", "/file", "1", "0")
        assert 0 < int(line["sent"]) < int(told["length"])
        assert [line[name] for name in ("wall_ms", "cpu_ms", "maxrss_kib")] == ["-"] * 3
    line = found[waiting.peer]
    assert (line["request"], line["path"], line["sent"]) == ("GET", "/file", "1000")
    service.wait_until(lambda: stored(service) == 1, "only the new master's table is kept")
    kill_supervisor(service)
    assert len(cut(service, began)) == len(held) + 1, "nothing is told twice"


def test_of_orphans_too_each_has_one_line(narrow, hold) -> None:
    service, began = narrow, narrow.now()
    orphans = [hold(b"GET /file", f"127.0.3.{number}") for number in (1, 2, 3)]
    pids = [fields(each.head().decode())["pid"] for each in orphans]
    master = service.master_pid()
    service.run("kill", "-KILL", str(master))
    service.wait_until(lambda: service.master_pid() != master, "another master")
    service.wait_until(lambda: stored(service) == 2, "both tables are kept")
    service.run("kill", "-KILL", pids[0])
    service.wait_until(lambda: f"orphan pid={pids[0]} " in service.journal(began), "the orphan's line")
    later = hold(b"GET /file", "127.0.3.4")
    later.head()
    kill_supervisor(service)
    assert set(cut(service, began)) == {orphans[1].peer, orphans[2].peer, later.peer}
    line = fields(service.journal(began, f"--grep=^orphan pid={pids[0]} "))
    assert (line["cause"], line["peer"], line["path"]) == ("SIGKILL", orphans[0].peer, "/file")


def test_reloads_and_restarts_leave_no_table_behind_and_no_such_line(service, load) -> None:
    began = service.now()
    clients = load(8)
    for verb in ("reload", "restart", "reload"):
        service.run("systemctl", verb, "forkserver.service")
        clients.wait_for_more(16)
    clients.stop()
    service.wait_until(lambda: stored(service) == 1, "only the last master's table is kept")
    service.run("systemctl", "stop", "forkserver.service")
    assert stored(service) == 0
    assert cut(service, began) == {}


def test_a_stop_lets_orphans_finish(narrow, hold) -> None:
    service, began = narrow, narrow.now()
    transfer = hold(b"GET /file")
    head = fields(transfer.head().decode())
    pid = head["pid"]
    master = service.master_pid()
    service.run("kill", "-KILL", str(master))
    service.wait_until(lambda: service.master_pid() != master, "another master")
    master = service.master_pid()
    service.run("systemctl", "stop", "--no-block", "forkserver.service")
    service.wait_until(lambda: master not in service.pids(), "the end of the master")
    assert service.show("ActiveState") == "deactivating"
    rest = transfer.rest()
    assert (len(rest), rest[-11:]) == (int(head["length"]) + 11, b"FS1 END ok\n")
    transfer.close()
    service.wait_until(lambda: service.show("ActiveState") == "inactive", "the end")
    line = fields(service.journal(began, f"--grep=^orphan pid={pid} "))
    assert line["cause"] in {"done", "retired"}, "the client or the child hangs up first"
    assert line["peer"] == transfer.peer
