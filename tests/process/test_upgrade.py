"""Another version is installed while a server runs: what a reload makes of it, and when it takes a restart."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

import forkserver
from forkserver.errors import OperatorError
from forkserver.supervisor import operator

pytestmark = pytest.mark.skipif(
    "WITHOUT_LANDLOCK" in os.environ,
    reason="the servers under test are to run the files of another installation",
)

REPOSITORY = Path(__file__).parents[2]
VERSION = f"version={forkserver.__version__} ".encode()


class Installation:
    """A copy of the package that servers run from, and that is changed beneath them."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._package = place / "forkserver"
        shutil.copytree(REPOSITORY / "forkserver", self._package, ignore=shutil.ignore_patterns("__pycache__"))

    @property
    def prefix(self) -> list[str]:
        """What makes a command run from here."""
        return ["/usr/bin/env", "-C", str(self._place), f"PYTHONPATH={self._place}"]

    def change(self, name: str, *changes: tuple[str, str]) -> None:
        path = self._package / name
        text = path.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        self._write(path, text)

    def spoil(self, *folders: str) -> None:
        """Make everything beneath these folders impossible to import."""
        for folder in folders:
            for path in (self._package / folder).rglob("*.py"):
                self._write(path, "raise SystemError('imported after the start')\n")

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        # By its time and size the compiled file could still look like this one's.
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)


@pytest.fixture
def installation(tmp_path):
    return Installation(tmp_path / "installed")


def reload(server) -> None:
    operator.ask(server.process.pid, operator.RELOAD, 20)


def test_a_reload_takes_the_code_that_is_installed_now_and_keeps_the_supervisor(serve, installation):
    server = serve(prefix=installation.prefix)
    installation.change("__init__.py", (f'"{forkserver.__version__}"', '"99.1"'))
    assert VERSION in server.ask(b"PING\n")
    reload(server)
    assert b"version=99.1 " in server.ask(b"PING\n")
    assert server.wait_for(" ready ", 2).endswith("version=99.1")


def test_a_setting_that_only_the_new_version_has_is_at_its_default(serve, installation):
    server = serve(prefix=installation.prefix)
    installation.change(
        "settings.py",
        ('    "receipts": Field(', '    "news": Field(5, 0, 9, "new"),\n    "receipts": Field('),
        ("    receipts: bool\n", "    receipts: bool\n    news: int\n"),
    )
    news = '    log.event("news", number=values.news)\n'
    installation.change("master/__main__.py", ("    log.form = values.log_format\n", f"    log.form = 'plain'\n{news}"))
    reload(server)
    server.wait_for(" news number=5")
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_a_version_that_takes_another_supervisor_fails_the_reload_with_the_remedy(serve, installation):
    server = serve(prefix=installation.prefix)
    first = server.master_pid
    installation.change("__init__.py", (f'"{forkserver.__version__}"', '"99.1"'))
    installation.change("settings.py", ("receipts", "accounts"))
    complaint = (
        "receipts: there is no such setting; it was sent by a supervisor of another version than this, 99.1, which is "
        "installed now: restart the server (systemctl restart forkserver)"
    )
    with pytest.raises(OperatorError) as caught:
        reload(server)
    assert str(caught.value) == complaint
    assert complaint in server.wait_for(" reload-failed ")
    assert VERSION in server.ask(b"PING\n")
    assert (server.master_pid, server.log(" master-died ")) == (first, [])


def test_a_supervisor_imports_nothing_once_it_serves(serve, installation):
    server = serve("--config", os.devnull, prefix=installation.prefix)
    installation.spoil("front", "supervisor")
    os.kill(server.master_pid, signal.SIGKILL)
    server.wait_for(" ready ", 2)
    reload(server)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for(" ready ", 4)
    assert server.ask(b"PING\n").startswith(b"FS1 200 ok ")


def test_a_master_and_its_children_import_nothing_once_they_serve(serve, installation):
    server = serve("--bare", prefix=installation.prefix)
    installation.spoil(".")
    with pytest.raises(OperatorError, match="the master ended with exit-1"):
        reload(server)
    requests = b"GET /hello.txt digest=blake2b\nSTAT /\nLIST / recursive=1\nGET /none\nPING\nNO\n"
    answer = server.ask(requests)
    assert [answer.count(word) for word in (b" END ok ", b"FS1 200 ok ", b"FS1 404 ", b"FS1 400 ")] == [2, 4, 1, 1]
    assert server.ask(b"hello.txt").endswith(b"file-existsHello, world\n")
    server.wait_for(" receipt ", 2)
