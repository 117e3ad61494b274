"""The manual page tells what the command does."""

from __future__ import annotations

import re
from pathlib import Path

from forkserver.client.command.cli import command
from forkserver.client.outcome import Exit

PAGE = (Path(__file__).parents[2] / "docs" / "man" / "fsget.1").read_text(encoding="utf-8")


def paragraphs(title: str) -> list[str]:
    return re.findall(rf"^\.It {title}$", PAGE, re.MULTILINE)


def test_every_option_has_its_paragraph():
    described = {word for line in paragraphs(r"Fl (.*)") for word in line.split()}
    for option in command.params:
        for spelling in option.opts:
            if spelling.startswith("-"):
                assert spelling.removeprefix("-") in described


def test_every_exit_status_has_its_line():
    described = {int(number) for line in paragraphs(r"(\d.*)") for number in line.split(" , ")}
    assert {status.value for status in Exit} <= described
