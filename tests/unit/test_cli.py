"""The forkserver command: what reaches the supervisor, and how each kind of failure ends."""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING

import pytest

from forkserver import __version__
from forkserver.errors import OperatorError
from forkserver.front import cli, daemoncommands, pidfile
from forkserver.settings import FIELDS, Settings
from forkserver.supervisor import supervise

if TYPE_CHECKING:
    from pathlib import Path

Streams = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_check_prints_settings_that_config_reads_back(tmp_path: Path, capsys: Streams) -> None:
    (tmp_path / "d\u00fc").mkdir()
    options = ["--root", "d\u00fc", "--bind", "[::1]:7", "--bind", "localhost", "--port", "0", "--spare", "2"]
    more = ["--connections-per-child", "3", "--max-children", "4", "--max-per-peer", "1", "--hidden", "--bare"]
    assert cli.run(["check", *options, *more]) == 0
    first, errors = capsys.readouterr()
    assert errors == ""
    assert tomllib.loads(first) == {name: field.default for name, field in FIELDS.items()} | {
        "root": str(tmp_path / "d\u00fc"),
        "bind": ["[::1]:7", "localhost"],
        "port": 0,
        "spare": 2,
        "connections_per_child": 3,
        "max_children": 4,
        "max_per_peer": 1,
        "hidden": True,
        "bare": True,
    }
    (tmp_path / "again.toml").write_text(first, encoding="utf-8")
    assert cli.run(["check", "--config", "again.toml"]) == 0
    assert capsys.readouterr().out == first


def test_options_not_given_leave_the_file_s_settings_alone(tmp_path: Path, capsys: Streams) -> None:
    (tmp_path / "some.toml").write_text("bind = ['::1']\nport = 7\nhidden = true\nbare = true\nspare = 9\n")
    assert cli.run(["check", "--config", "some.toml", "--no-bare", "--spare", "0"]) == 0
    found = tomllib.loads(capsys.readouterr().out)
    assert (found["bind"], found["port"], found["hidden"], found["bare"], found["spare"]) == (
        ["::1"],
        7,
        True,
        False,
        0,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["check", "--port", "70000"], "--port: 70000 is out of bounds; it must be from 0 to 65535"),
        (["serve", "--port", "70000"], "--port: 70000 is out of bounds; it must be from 0 to 65535"),
        (["serve", "--root", "no\t"], "--root: {cwd}/no\\t: does not exist; create it, or name another directory"),
        (["serve", "--bind", "::g"], "--bind: ::g: this is not an IPv6 address; write HOST, HOST:PORT or [HOST]:PORT"),
        (["check", "--config", "no.toml"], "no.toml: cannot read it: No such file or directory; name another file"),
        (["check", "--root", "/\udcff"], "--root: /\\udcff: does not exist"),
    ],
)
def test_wrong_settings_are_one_line_and_78(arguments: list[str], line: str, tmp_path: Path, capsys: Streams) -> None:
    assert cli.run(arguments) == 78
    out, errors = capsys.readouterr()
    assert out == ""
    assert errors.startswith(f"forkserver: {line.replace('{cwd}', str(tmp_path))}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["serve", "--fly"], ["serve", "--port"], ["serve", "--port", "x"], ["serve", "x"], ["--config", "x"]],
)
def test_wrong_command_lines_are_2(arguments: list[str], capsys: Streams) -> None:
    assert cli.run(arguments) == 2
    out, errors = capsys.readouterr()
    assert out == ""
    # The group without a command shows its help; the rest are told what is wrong.
    assert errors.startswith("Usage: forkserver") if not arguments else "Error: " in errors
    assert "Traceback" not in errors


def test_version_and_help(capsys: Streams) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"forkserver {__version__}\n"
    assert cli.run(["serve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ("root", "bind", "spare", "connections_per_child", "max_children", "max_per_peer", "hidden", "bare"):
        assert f"--{name.replace('_', '-')}" in text
        assert FIELDS[name].meaning in text


@pytest.mark.parametrize("status", [0, 1, 70])
def test_serve_hands_over_the_settings_and_exits_as_the_supervisor_says(
    status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Settings] = []

    def main(settings: Settings, _load: object) -> int:
        seen.append(settings)
        return status

    monkeypatch.setattr(supervise, "main", main)
    assert cli.run(["serve", "--port", "7", "--spare", "1"]) == status
    assert seen[0].encode() == Settings(root=str(tmp_path), port=7, spare=1).encode()


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OperatorError("bind: 192.0.2.1: is not ours"), 78, "forkserver: bind: 192.0.2.1: is not ours\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_how_the_supervisor_s_failures_end(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    def main(_: Settings, _load: object) -> int:
        raise error

    monkeypatch.setattr(supervise, "main", main)
    assert cli.run(["serve"]) == status
    assert capsys.readouterr().err.lstrip("\n") == line


def test_our_own_bug_is_one_line_and_70(monkeypatch: pytest.MonkeyPatch, capsys: Streams) -> None:
    def main(_: Settings, _load: object) -> int:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr(supervise, "main", main)
    assert cli.run(["serve"]) == 70
    errors = capsys.readouterr().err
    assert errors.startswith("forkserver: bug: ZeroDivisionError: a\\nb, at ")
    assert f"{os.path.basename(__file__)}:" in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["docs"], "did you mean --root docs?"),
        (["--port", "7", "a\x1b"], "did you mean --root a\\x1b?"),
        (["--root", "docs", "files"], "files: is not an option"),
        (["a", "b"], "a b: is not an option"),
    ],
)
def test_a_word_among_the_options_is_told_what_it_may_have_meant(
    arguments: list[str], remedy: str, capsys: Streams
) -> None:
    assert cli.run(["serve", *arguments]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize(("verb", "status"), [("status", 3), ("reload", 78)])
def test_where_systemd_runs_its_service_is_named(
    verb: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    path = str(tmp_path / "pid")
    monkeypatch.setattr(pidfile, "DEFAULT_PATH", path)
    monkeypatch.delenv("MAINPID", raising=False)
    for booted in (True, False):
        monkeypatch.setattr(daemoncommands, "SYSTEMD", str(tmp_path / ("" if booted else "no")))
        assert cli.run([verb, "--pid-file", path]) == status
        told = "".join(capsys.readouterr())
        assert told.endswith(f"; of the service under systemd use `systemctl {verb} forkserver`\n") == booted, told
