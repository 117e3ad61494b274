"""From one installed version to another while clients fetch, as docs/operations.md says."""

from __future__ import annotations

import base64
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from forkserver import __version__

pytestmark = pytest.mark.timeout(300)  # builds two wheels, and the first test of the folder boots the host

REPOSITORY = Path(__file__).parents[3]
NEXT_VERSION = __version__ + ".post1"
_ARGUMENT_CHARACTERS = 100_000  # MAX_ARG_STRLEN, execve(2), is 131,072


def wheel_of(version: str, place: Path) -> Path:
    """The tree as it is, but for the number of its version."""
    tree = place / "tree"
    shutil.copytree(REPOSITORY, tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "tests"))
    module = tree / "forkserver" / "__init__.py"
    module.write_text(module.read_text().replace(f'"{__version__}"', f'"{version}"'))
    # The test stands in a network without a registry, from which an isolated build would fetch hatchling once more.
    options = ("-q", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place))
    command = [sys.executable, "-m", "pip", "wheel", *options, str(tree)]
    built = subprocess.run(command, check=False, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return next(place.glob("*.whl"))


@pytest.fixture(scope="module")
def wheels(host, tmp_path_factory) -> dict[str, str]:
    """Path in the container, by version."""
    paths = {}
    for version in (__version__, NEXT_VERSION):
        wheel = wheel_of(version, tmp_path_factory.mktemp("wheel"))
        paths[version] = f"/root/{wheel.name}"
        data = base64.b64encode(wheel.read_bytes()).decode()
        for start in range(0, len(data), _ARGUMENT_CHARACTERS):
            part = data[start : start + _ARGUMENT_CHARACTERS]
            host.run("sh", "-c", f"printf %s {part} | base64 -d >>{shlex.quote(paths[version])}")
    return paths


@pytest.fixture
def install(host, wheels):
    """``install(version)`` into the environment that the service runs from; afterwards the first one is there again."""

    def install(version: str) -> None:
        options = ("-q", "--no-index", "--no-deps", "--force-reinstall")
        host.run("/opt/forkserver/bin/pip", "install", *options, wheels[version])

    yield install
    install(__version__)
    host.run("systemctl", "restart", "forkserver.service")


def version_of(host) -> str:
    """That of the code which answers a new connection."""
    found = re.search(rb" version=(\S+) ", host.ask(b"PING"))
    assert found
    return found[1].decode()


def test_an_upgrade_by_reload_and_then_by_restart_fails_no_fetch(service, load, install) -> None:
    clients = load(16)
    before = service.pids()
    install(NEXT_VERSION)
    clients.wait_for_more(32)
    assert version_of(service) == __version__, "what runs is what was started"

    service.run("systemctl", "reload", "forkserver.service")
    assert version_of(service) == NEXT_VERSION
    clients.wait_for_more(32)
    assert int(service.show("MainPID")) == before[0]
    service.wait_until(lambda: len(set(before) & set(service.pids())) == 1, "of the old version only the supervisor")

    service.run("/opt/forkserver/bin/forkserver", "units")
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "restart", "forkserver.service")
    clients.wait_for_more(32)
    assert version_of(service) == NEXT_VERSION
    clients.stop()
    assert not set(before) & set(service.pids()), "all were started from the files of the new version"


def test_a_supervisor_that_runs_the_old_code_replaces_a_dead_master_by_a_new_one(service, load, install) -> None:
    main, master = service.show("MainPID"), service.master_pid()
    install(NEXT_VERSION)
    clients = load(16, retries=30)
    service.run("kill", "-KILL", str(master))
    service.wait_until(lambda: service.master_pid() != master, "another master")
    clients.wait_for_more(32)
    clients.stop()
    assert version_of(service) == NEXT_VERSION
    assert service.show("MainPID") == main
