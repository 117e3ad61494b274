from __future__ import annotations

import os
import re

import pytest

from forkserver.logline import MAX_VALUE_CHARS, Log

PIPE_BUF = 4096


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    os.close(read_fd)
    os.close(write_fd)


def test_an_event_is_one_line_with_time_program_pid_verb_and_fields(pipe):
    Log(pipe[1]).event("end", peer="127.0.0.1:1", status=200)
    line = os.read(pipe[0], PIPE_BUF).decode()
    pattern = (
        rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{6}}Z forkserver\[{os.getpid()}\] end peer=127\.0\.0\.1:1 status=200\n"
    )
    assert re.fullmatch(pattern, line)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        ("", '""'),
        ("two words", '"two words"'),
        ('quo"te', r'"quo\"te"'),
        ("back\\slash", r'"back\\slash"'),
        ("line\nfeed", r'"line\x0afeed"'),
        ("\x1b[31m", r'"\x1b[31m"'),
        ("\u202e", r'"\u202e"'),
        ("\udcff", r'"\udcff"'),
        ("\U0001f600", r'"\U0001f600"'),
        ("ü", r'"\xfc"'),
    ],
)
def test_no_value_can_forge_a_line_a_field_or_an_escape_sequence(pipe, value, written):
    Log(pipe[1]).event("end", key=value)
    assert os.read(pipe[0], PIPE_BUF).decode("ascii").partition(" key=")[2] == written + "\n"


@pytest.mark.parametrize("value", ["x" * 100_000, "\U0001f600" * 100_000, "\n" * 100_000])
def test_a_value_of_any_length_leaves_a_line_that_a_pipe_takes_whole(pipe, value):
    Log(pipe[1]).event("end", key=value)
    line = os.read(pipe[0], 2 * PIPE_BUF)
    assert len(line) <= PIPE_BUF
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) > MAX_VALUE_CHARS // 2


def test_a_log_that_cannot_be_written_does_no_harm():
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    Log(write_fd).event("end")
    os.close(write_fd)
    Log(write_fd).event("end")


def test_a_bug_names_its_exception_and_where_it_was_raised_innermost_first(pipe):
    def raise_one():
        raise KeyError("x y")

    try:
        raise_one()
    except KeyError as error:
        Log(pipe[1]).bug(error)
    line = os.read(pipe[0], PIPE_BUF).decode()
    assert 'bug error="KeyError: \'x y\'" at="test_logline.py:' in line
    assert line.index("raise_one") < line.index("test_a_bug")
