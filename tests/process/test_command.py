"""The forkserver command as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from forkserver.front import cli, configfile
from forkserver.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "forkserver.front.cli"]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(cli.__file__)))}


@pytest.mark.parametrize("arguments", ["check", "--version", "serve --help"])
@pytest.mark.parametrize(
    ("place", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_a_standard_output_that_takes_nothing_is_one_line_and_74(arguments: str, place: str, reason: str) -> None:
    script = f'exec "$@" {arguments} {place}'
    ended = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *COMMAND], env=ENVIRONMENT, capture_output=True, check=False, text=True
    )
    assert (ended.returncode, ended.stderr) == (74, f"forkserver: standard output: {reason}\n")


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [*COMMAND, "check"]
    ended = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, check=True, text=True)
    assert ended.stdout == configfile.dump(Settings(root=str(tmp_path)))
    assert ended.stderr == ""
