"""The manual page tells what the command does."""

from __future__ import annotations

import re
from pathlib import Path

from forkserver.client.cli import command
from forkserver.client.outcome import Exit

PAGE = (Path(__file__).parents[2] / "docs" / "man" / "fsget.1").read_text(encoding="utf-8")


def test_every_option_has_its_paragraph():
    described = {
        word for line in re.findall(r"^\.It Fl (.*)$", PAGE, re.MULTILINE) for word in line.replace(",", " ").split()
    }
    for option in command.params:
        for spelling in option.opts:
            if spelling.startswith("-"):
                assert spelling.removeprefix("-") in described


def test_every_exit_status_has_its_line():
    described = {
        int(number) for line in re.findall(r"^\.It (\d.*)$", PAGE, re.MULTILINE) for number in line.split(" , ")
    }
    assert {status.value for status in Exit} <= described
