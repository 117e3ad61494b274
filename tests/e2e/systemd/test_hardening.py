"""Each directive that hardens the unit, probed by an act that must fail, in a unit that has them all."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

PROBE = Path(__file__).with_name("probe.py")
REPOSITORY = Path(__file__).parents[3]
UNIT = "/run/systemd/system/probe.service"
# What makes a daemon of the service, and is nothing to a probe.
DAEMON = r"(Requires|Type|NotifyAccess|Exec\w+|Restart\w*|Watchdog\w+)="


@pytest.fixture(scope="module")
def probe(host):
    """``probe(directives, *acts)``: run ``probe.py`` in a unit with these directives."""
    host.run("touch", "/tmp/of-another")
    host.run("sh", "-c", f"cat >/opt/probe.py <<'END'\n{PROBE.read_text()}\nEND")

    def run(directives: str, *acts: str) -> dict[str, Any]:
        program = shlex.join(["/opt/forkserver/bin/python3", "/opt/probe.py", *acts])
        unit = f"[Service]\nType=oneshot\nTimeoutStartSec=10\nExecStart={program}\n{directives}"
        host.run("sh", "-c", f"printf %s {shlex.quote(unit)} >{UNIT}")
        host.run("systemctl", "daemon-reload")
        host.run("systemctl", "start", "probe.service")
        host.run("journalctl", "--sync")
        told = host.run("journalctl", "-u", "probe.service", "-o", "cat", "--no-pager").stdout
        return json.loads([line for line in told.splitlines() if line.startswith('{"acts"')][-1])

    return run


@pytest.fixture(scope="module")
def hardened(probe):
    shipped = (REPOSITORY / "systemd" / "forkserver.service").read_text().partition("[Service]\n")[2]
    lines = shipped.partition("[Install]")[0].splitlines()
    return probe("\n".join([line for line in lines if not re.match(DAEMON, line)]) + "\n")


def test_every_act_fails(hardened) -> None:
    assert [name for name, how in hardened["acts"].items() if how == "done"] == []


def test_the_acts_fail_for_the_reason_they_should(hardened) -> None:
    acts = hardened["acts"]
    assert acts["write to the root"] == "EROFS"
    assert {acts[name] for name in ("write to /etc", "write to /run")} <= {"EROFS", "EACCES"}
    assert acts["read /etc/shadow"] == "EACCES"
    assert acts["open a network socket"] == "EAFNOSUPPORT"
    assert {acts[name] for name in ("see process 1", "see others' /tmp", "see the kernel's settings")} == {"ENOENT"}
    refused = ("become root", "make a namespace", "load a module", "write and run memory", "be real-time", "mount")
    assert {acts[name] for name in refused} == {"EPERM"}


def test_it_has_no_power_left(hardened) -> None:
    state = hardened["state"]
    assert state["uid"] != 0
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2")
    assert int(state["CapEff"], 16) == int(state["CapBnd"], 16) == 0
    assert state["root"] == "ro"


def test_without_the_directives_the_acts_succeed(probe) -> None:
    # Those that would harm neither the container nor the probe itself.
    acts = (
        "write to the root",
        "write to /etc",
        "write to /run",
        "read /etc/shadow",
        "list /root",
        "see others' /tmp",
        "see process 1",
        "see the kernel's settings",
        "open a network socket",
        "change an owner",
        "write and run memory",
        "signal another",
    )
    assert probe("", *acts)["acts"] == dict.fromkeys(acts, "done")
