"""What stops a child that was taken over: acts that must fail, done by a real child of the real service.

The service is the shipped one, but for its program: a copy of the installed one, whose children try an act when they
are asked for the name ``/probe/ACT``.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest

PROBE = Path(__file__).with_name("probe.py")
PACKAGE = "/opt/planted/lib/python3*/site-packages/forkserver"
PLANTED = "/opt/planted/bin/python3 -P -m forkserver.front.cli serve --config /etc/forkserver/forkserver.toml"
PLANT = """
from forkserver.child import probe
_answer = Answerer.answer
def _answer_or_try(self, request):
    if not request.name.startswith(b"/probe/"):
        return _answer(self, request)
    told = probe.outcome(request.name.removeprefix(b"/probe/").decode()) + "\\n"
    self._sender.peer_socket.send(bytearray(told.encode()), self._sender.pace(), STOPPING)
    return Answered(Status.OK)
Answerer.answer = _answer_or_try
"""
# As where the kernel has none.
NO_LANDLOCK = """
def restrict_to(root_fd):
    return 0
"""
UNIT = "/run/systemd/system/probe.service"

# How each act ends, by the wall that it meets first.
READ_ONLY_MOUNTS = dict.fromkeys(
    (
        "write to the root",
        "overwrite a file of the root",
        "remove a file of the root",
        "change a mode in the root",
        "write to /etc",
    ),
    "EROFS",
)
HIDDEN = dict.fromkeys(("see others' /tmp", "see process 1", "see the kernel's settings"), "ENOENT")
NO_FAMILY = dict.fromkeys(("open a connection", "send a datagram"), "EAFNOSUPPORT")
# Users and permissions, capabilities, and the filter of system calls, often all of them.
FORBIDDEN = dict.fromkeys(
    (
        "become root",
        "change an owner",
        "change the root directory",
        "name the host",
        "mount",
        "make a namespace",
        "load a module",
        "watch performance",
        "load BPF",
        "be real-time",
        "be nicer to itself",
        "write and run memory",
        "be another kind of system",
        "trace its parent",
        "signal another",
    ),
    "EPERM",
)
NOT_PERMITTED = dict.fromkeys(("write to /run", "read /etc/shadow", "list /root"), "EACCES")
LIMITS = {"fork": "EAGAIN"}
UNIT_ALONE = READ_ONLY_MOUNTS | HIDDEN | NO_FAMILY | FORBIDDEN | NOT_PERMITTED | LIMITS
LANDLOCK_ALONE = dict.fromkeys(("write to its own /tmp", "read what all may read", "run a program"), "EACCES")
# Without the unit root can do these, and harms neither the container nor the probe itself.
HARMLESS = (
    *READ_ONLY_MOUNTS,
    *HIDDEN,
    *NO_FAMILY,
    *NOT_PERMITTED,
    *LIMITS,
    "write to its own /tmp",
    "read what all may read",
    "change an owner",
    "write and run memory",
    "signal another",
    "run a program",
)


@pytest.fixture
def attempt(service, drop_in):
    """``attempt(acts, landlock=True)``: how each ends in a child of the service."""

    def run(acts, *, landlock: bool = True) -> dict[str, str]:
        service.run("sh", "-c", "rm -rf /opt/planted; cp -a /opt/forkserver /opt/planted")
        prepare(service)
        append(service, "child/probe.py", PROBE.read_text())
        append(service, "child/answer.py", PLANT)
        append(service, "kernel/landlock.py", "" if landlock else NO_LANDLOCK)
        drop_in(f"ExecStart=\nExecStart={PLANTED}\n")
        service.run("systemctl", "restart", "forkserver.service")
        # An act that ends the child has no answer.
        return {act: service.ask(b"STAT /probe/" + quote(act).encode()).decode().strip() for act in acts}

    return run


def prepare(host) -> None:
    # Anybody could write there, were it not for the unit; the directory is like that already.
    host.run("sh", "-c", "touch /tmp/of-another /srv/files/spare; chmod 666 /srv/files/file /srv/files/spare")


def append(host, module: str, text: str) -> None:
    host.run("sh", "-c", f"printf %s {shlex.quote(text)} >>$(echo {PACKAGE})/{module}")


def test_a_child_of_the_service_can_do_none_of_it(attempt) -> None:
    expected = UNIT_ALONE | LANDLOCK_ALONE
    assert attempt(expected) == expected


def test_where_the_kernel_has_no_landlock_the_unit_and_the_limits_hold(attempt) -> None:
    assert attempt(UNIT_ALONE, landlock=False) == UNIT_ALONE


def test_without_the_unit_the_acts_succeed(host) -> None:
    host.run("sh", "-c", f"printf %s {shlex.quote(PROBE.read_text())} >/opt/probe.py")
    prepare(host)
    assert run_alone(host, *HARMLESS[:-1]) == dict.fromkeys(HARMLESS[:-1], "done")
    assert run_alone(host, HARMLESS[-1]) == {HARMLESS[-1]: "done"}


def run_alone(host, *acts: str) -> dict[str, str]:
    unit = f"[Service]\nType=oneshot\nExecStart={shlex.join(['/usr/bin/python3', '/opt/probe.py', *acts])}\n"
    host.run("sh", "-c", f"printf %s {shlex.quote(unit)} >{UNIT}")
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "start", "probe.service")
    host.run("journalctl", "--sync")
    told = host.run("journalctl", "--unit=probe.service", "--output=cat", "--no-pager", "--grep=^{").stdout
    answer: dict[str, str] = json.loads(told.splitlines()[-1])
    return answer


def test_a_child_has_no_power_left(service, hold) -> None:
    connection = hold(b"PING", half_close=False)
    pid = re.findall(rb" pid=(\d+) ", connection.head())[0].decode()
    told = service.run("cat", f"/proc/{pid}/status").stdout
    state = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
    assert set(state["Uid"].split()) & {"0"} == set()
    assert (state["NoNewPrivs"], state["Seccomp"]) == ("1", "2")
    assert {int(state[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    mounts = [line.split() for line in service.run("cat", f"/proc/{pid}/mountinfo").stdout.splitlines()]
    assert next(mount[5].split(",")[0] for mount in mounts if mount[4] == "/") == "ro"
    limits = service.run("cat", f"/proc/{pid}/limits").stdout
    assert re.search(r"^Max processes +0 +0 ", limits, re.MULTILINE)
