"""What befalls a daemon in its life, while sixteen clients fetch from it."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest

from forkserver import __version__

CLIENTS = 16
RELOADS = 10
NEXT_VERSION = __version__ + ".post1"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def upgradable(roots, tmp_path):
    """A daemon whose installation is its own; who started it may change that."""
    own = tmp_path / "modules"
    shutil.copytree(roots.modules, own)
    roots.modules = own
    return roots.by(())


def test_reloads_fail_no_fetch_and_a_transfer_spans_them_all(roots, fetchers, get, large):
    (roots.root / "large").write_bytes(large)
    config = roots.place / "forkserver.toml"
    config.write_text("stall_s = 300\nmin_rate_bytes = 0\n")  # the transfer waits until all reloads are done
    roots.start("--config", str(config))
    clients = fetchers(roots, CLIENTS)
    transfer = get(roots, b"GET /large")
    masters = {roots.master_pid}
    for _ in range(RELOADS):
        assert roots.run("reload")[0] == 0
        masters.add(roots.master_pid)
        clients.wait_for(CLIENTS)
    assert transfer.rest() == (large, b"FS1 END ok\n")
    clients.stop()
    assert (clients.wrong, clients.unanswered) == ([], 0)
    assert len(masters) == RELOADS + 1
    assert roots.running(roots.pid) == f"forkserver: running, PID {roots.pid}"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_master_that_is_no_more_use_is_replaced(roots, fetchers, eventually, state, number):
    roots.start()
    clients = fetchers(roots, CLIENTS)
    clients.wait_for(CLIENTS)
    master = roots.master_pid
    os.kill(master, number)
    eventually(lambda: roots.master_pid != master, "another master")
    clients.wait_for(CLIENTS)
    clients.stop()
    assert clients.wrong == []
    assert clients.unanswered <= CLIENTS
    assert not state(master)
    assert roots.run("status")[0] == 0


def test_a_killed_supervisor_leaves_nothing_but_transfers_and_the_next_start_works(
    roots, get, large, eventually, state
):
    (roots.root / "large").write_bytes(large)
    roots.start()
    transfer = get(roots, b"GET /large")
    family = [roots.pid, roots.master_pid]
    os.kill(roots.pid, signal.SIGKILL)
    assert transfer.rest() == (large, b"FS1 END ok\n")
    eventually(lambda: not any(map(state, [*family, transfer.pid])), "their end")
    assert roots.run("status")[0] == 1
    roots.start()
    assert roots.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_an_upgrade_by_reload_fails_no_fetch_and_new_connections_meet_the_new_code(upgradable, fetchers):
    upgradable.start()
    clients = fetchers(upgradable, CLIENTS)
    clients.wait_for(CLIENTS)
    module = upgradable.modules / "forkserver" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{__version__}"', f'"{NEXT_VERSION}"'))
    assert version_of(upgradable) == __version__, "what runs is what was started"
    assert upgradable.run("reload")[0] == 0
    assert version_of(upgradable) == NEXT_VERSION
    clients.wait_for(CLIENTS)
    clients.stop()
    assert (clients.wrong, clients.unanswered) == ([], 0)


def version_of(server) -> str:
    found = re.search(rb" version=(\S+) ", server.ask(b"PING\n"))
    assert found
    return found[1].decode()
