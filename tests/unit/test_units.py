"""``forkserver units``: what it writes, where, and what it leaves alone."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from forkserver.errors import OperatorError
from forkserver.front import cli, units
from forkserver.kernel import oomscore
from forkserver.settings import FIELDS, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
SERVICE = "etc/systemd/system/forkserver.service"
CONFIGURATION = "etc/forkserver/forkserver.toml"


def test_the_units_run_this_installation(tmp_path: Path, capfd) -> None:
    assert cli.run(["units", "--prefix", str(tmp_path)]) == 0
    names = (SERVICE, "etc/systemd/system/forkserver.socket", CONFIGURATION)
    written = [tmp_path / name for name in names]
    assert capfd.readouterr().out.splitlines() == [f"{path}: written" for path in written]
    commands = re.findall(r"^Exec\w+=(\S+) (\w+)", written[0].read_text(), re.MULTILINE)
    program = f"{sysconfig.get_path('scripts')}/forkserver"
    assert commands == [(program, "serve"), (program, "reload")]


def test_they_are_else_as_shipped(tmp_path: Path) -> None:
    units.write(str(tmp_path))
    for path in (tmp_path / "etc").rglob("forkserver.*"):
        text = path.read_text().replace(sysconfig.get_path("scripts"), "/opt/forkserver/bin")
        assert text == (REPOSITORY / "systemd" / path.name).read_text()
        assert path.stat().st_mode & 0o777 == 0o644


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_whatever_the_umask_all_may_read_what_is_written(tmp_path: Path) -> None:
    units.write(str(tmp_path))
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "etc").rglob("*") if path.is_dir()}
    assert modes | {(tmp_path / "etc").stat().st_mode & 0o777} == {0o755}
    assert (tmp_path / CONFIGURATION).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("place", "count"), [("/root/venv/bin", 1), ("/home/ann/venv/bin", 1), ("/opt/venv/bin", 0)])
def test_an_installation_that_the_service_could_not_see_is_told_of(
    place: str, count: int, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: place)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(units, "_HERE", "/opt/forkserver/lib")
    assert cli.run(["units", "--prefix", str(tmp_path)]) == 0
    told = capfd.readouterr().err
    assert told.count("\n") == count
    assert told.startswith(f"forkserver: warning: {place}: the service cannot use ") or not count


def test_units_are_replaced_and_a_configuration_is_not(tmp_path: Path) -> None:
    units.write(str(tmp_path))
    (tmp_path / SERVICE).write_text("old")
    (tmp_path / CONFIGURATION).write_text("mine")
    assert f"{tmp_path / CONFIGURATION}: left as it is" in units.write(str(tmp_path))
    assert (tmp_path / SERVICE).read_text() != "old"
    assert (tmp_path / CONFIGURATION).read_text() == "mine"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("")
    with pytest.raises(OperatorError, match=r"forkserver.service: cannot be written: Not a directory"):
        units.write(str(tmp_path))


def test_a_path_that_would_need_quoting_is_refused(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sysconfig, "get_path", lambda _: "/opt/my server/100%")
    with pytest.raises(OperatorError, match="install beneath /opt"):
        units.write(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_sample_configuration_holds_and_tells_the_defaults() -> None:
    text = (REPOSITORY / "systemd" / "forkserver.toml").read_text()
    Settings(**tomllib.loads(text))
    defaults = tomllib.loads("\n".join(re.findall(r"^#(\w+ = .*)", text, re.MULTILINE)))
    assert defaults
    assert defaults == {name: FIELDS[name].default for name in defaults}


def test_under_systemd_the_supervisor_has_the_same_score_as_in_the_classic_daemon() -> None:
    assert f"\nOOMScoreAdjust={oomscore.SUPERVISOR}\n" in (REPOSITORY / "systemd" / "forkserver.service").read_text()


def test_each_directive_has_its_reason() -> None:
    for name in ("forkserver.service", "forkserver.socket"):
        told = False
        for line in (REPOSITORY / "systemd" / name).read_text().splitlines():
            told = line.startswith("#") or (told and bool(line))
            header = line.startswith(("[", "Description=", "Documentation=")) or line in {"", "[Install]"}
            assert told or header or line.startswith(("WantedBy=", "Also=")), line


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Units as an operator has them installed; the configuration file that they name."""
    units.write(str(tmp_path))
    monkeypatch.setattr(units, "_UNITS", str(tmp_path / "etc/systemd/system"))
    path = tmp_path / CONFIGURATION
    service = tmp_path / SERVICE
    service.write_text(service.read_text().replace("/etc/forkserver/forkserver.toml", str(path)))
    return path


def test_check_warns_where_the_service_s_file_names_addresses_for_systemd_passes_the_sockets(
    installed: Path, tmp_path: Path, capfd
) -> None:
    installed.write_text(f'root = "{tmp_path}"\nport = 9999\n')
    assert cli.run(["check", "--config", str(installed)]) == 0
    said = capfd.readouterr()
    assert "port = 9999\n" in said.out
    warning = f"forkserver: warning: {installed}: not used by the service: port: systemd passes the sockets of "
    assert said.err.startswith(warning)


def test_check_does_not_warn_of_addresses_in_other_files(installed: Path, tmp_path: Path, capfd) -> None:
    for path, text in ((installed, ""), (tmp_path / "other.toml", "port = 9999\n")):
        path.write_text(f'root = "{tmp_path}"\n{text}')
        assert cli.run(["check", "--config", str(path)]) == 0
        assert capfd.readouterr().err == ""
