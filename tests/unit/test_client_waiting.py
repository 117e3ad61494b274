"""Waiting: between retries, and in front of a progress bar."""

from __future__ import annotations

import io
import os
import re
from typing import TextIO

import pytest

from forkserver.client.command.cells import cells, shorten
from forkserver.client.command.progress import ProgressBar, Speed
from forkserver.client.command.report import complain
from forkserver.client.command.statusline import StatusLine
from forkserver.client.events import RetryEnded, Retrying
from forkserver.client.outcome import Served
from forkserver.client.remote.session import FIRST_WAIT_S, LONGEST_WAIT_S, backoff


def test_waits_double_up_to_a_cap_and_differ_by_chance():
    waits = list(backoff(1000))
    assert len(waits) == 1000
    assert FIRST_WAIT_S / 2 <= waits[0] <= FIRST_WAIT_S
    assert min(waits[10:]) >= LONGEST_WAIT_S / 2
    assert max(waits) <= LONGEST_WAIT_S
    assert len(set(waits)) > 900


def test_without_retries_there_is_no_wait():
    assert list(backoff(0)) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def status_line(terminal: TextIO | None = None) -> tuple[StatusLine, Clock]:
    clock = Clock()
    return StatusLine(terminal or Terminal(), clock, ticking=False), clock


def shown_at(*moments: float, before: int = 0) -> str:
    terminal = Terminal()
    line, clock = status_line(terminal)
    progress = ProgressBar(b"big\x1b.log", line, lambda: [Served(4711, "1.0")])
    progress.update(before, 4_000_000 + before, before)
    for moment in moments:
        clock.now = moment
        progress.update(before + int(moment * 1_000_000), 4_000_000 + before, before)
    progress.finish()
    return terminal.getvalue()


def test_what_is_done_within_a_second_shows_no_progress():
    assert shown_at(0.1, 0.9) == ""


def test_a_longer_transfer_is_told_ten_times_a_second_at_most():
    shown = shown_at(0.5, 1.0, 1.05, 2.0)
    assert shown.count("big\\x1b.log  [") == 2
    assert " 25%" in shown
    assert " 50%" in shown
    assert "1.0 MB/s  0:00:03  PID 4711" in shown
    assert "1.0 MB/s  0:00:02  PID 4711" in shown


def test_what_was_here_before_is_no_speed():
    shown = shown_at(0.5, 1.0, before=16_000_000)
    assert " 85%" in shown
    assert "1.0 MB/s  0:00:03" in shown


def test_the_last_byte_is_always_told():
    assert "100%" in shown_at(2.0, 3.99, 4.0)


def test_the_terminal_keeps_its_cursor_and_gets_a_fresh_line_back():
    shown = shown_at(2.0)
    assert shown.endswith("\n")
    assert "\x1b[?25" not in shown


def test_how_much_there_is_may_be_known_only_later():
    terminal = Terminal()
    line, clock = status_line(terminal)
    progress = ProgressBar(b"tree", line, lambda: [Served(4711, "1.0")])
    for moment, size in ((0.5, None), (2.0, None), (3.0, None), (4.0, 10_000_000), (5.0, 10_000_000)):
        clock.now = moment
        progress.update(int(moment * 1_000_000), size, name=b"tree/name")
    progress.finish()
    *_, before, _, after = terminal.getvalue().replace("\x1b[K", "").split("\r")
    assert "1.0 MB/s  3.0 MB so far  PID 4711" in before
    assert "%" not in before
    assert "tree/name" in after
    assert " 50%" in after
    assert "1.0 MB/s  0:00:05  PID 4711" in after


def test_the_rate_is_that_of_the_last_seconds():
    speed = Speed()
    for second in range(60):
        speed.note(second, second * 1000)
    for second in range(60, 66):
        speed.note(second, 60_000 + (second - 60) * 50)
    assert speed.per_second() == 50


def test_a_time_in_which_the_process_was_stopped_does_not_count():
    speed = Speed()
    for second in range(5):
        speed.note(second, second * 1000)
    assert speed.per_second() == 1000
    speed.note(3600, 4000)
    assert speed.per_second() is None
    speed.note(3601, 5000)
    assert speed.per_second() == 1000


def test_a_transfer_that_stalls_gets_slower():
    terminal = Terminal()
    line, clock = status_line(terminal)
    progress = ProgressBar(b"f", line)
    for second in range(4):
        clock.now = second
        progress.update(second * 1_000_000, 9_000_000)
    for second in range(4, 10):
        clock.now = second
        line.tick()
    assert terminal.getvalue().rpartition("\r")[2] == f"f  [{'#' * 19}{'-' * 40}]   33%  0 B/s\x1b[K"


@pytest.mark.parametrize("columns", [20, 38, 80, 200])
@pytest.mark.parametrize(
    "name",
    [
        "f",
        "backup-of-a-long-name-2026-11-25.tar.zst",
        "文書の一覧と報告書の控え.pdf",
        "\x1b[31m\xff.log",
        "e\u0301" * 30,
        "❤️" * 20,
    ],
)
def test_a_line_never_reaches_the_last_column(columns, name, monkeypatch):
    # The size of the terminal is the kernel's to tell.
    monkeypatch.setattr(os, "get_terminal_size", lambda _fd: os.terminal_size((columns, 24)))
    terminal = Terminal()
    terminal.fileno = lambda: 1  # type: ignore[method-assign]
    line, clock = status_line(terminal)
    progress = ProgressBar(
        os.fsencode(name), line, lambda: [Served(4711, "1.0"), Served(4712, "1.0"), Served(4713, "1.0")]
    )
    for second in range(8):
        clock.now = second
        progress.update(second * 1_000_000, None if second < 4 else 9_000_000, name=os.fsencode(name))
    clock.now = 20.0
    line(retry(7, 1.9, 30.0))
    drawn = re.split(r"\r|\x1b\[K|\n", terminal.getvalue())
    assert len(drawn) > 12
    assert all(cells(text) <= columns - 3 for text in drawn)


def drawn_in(room: int, name: bytes = b"backup.tar") -> str:
    line, clock = status_line()
    progress = ProgressBar(name, line, lambda: [Served(4711, "1.0")])
    for second in range(3):
        clock.now = second
        progress.update(second * 1_000_000, 4_000_000)
    return progress.text(room, clock.now) or ""


def test_where_there_is_little_room_the_least_important_is_left_out_first():
    assert drawn_in(60) == "backup.tar  [#####------]   50%  1.0 MB/s  0:00:02  PID 4711"
    assert drawn_in(50) == "backup.tar   50%  1.0 MB/s  0:00:02  PID 4711"
    assert drawn_in(40) == "backup.tar   50%  1.0 MB/s  0:00:02"
    assert drawn_in(30) == "backup.tar   50%  1.0 MB/s"
    assert drawn_in(17) == "backup.tar   50%"
    assert drawn_in(14) == "back…tar   50%"
    assert drawn_in(5) == " 50%"


def test_a_long_name_is_cut_in_the_middle_and_leaves_room_for_the_rest():
    name = b"backup-of-everything-there-is-at-home-2026-11-25.tar"
    assert drawn_in(77, name) == "backup-of-everything-…-home-2026-11-25.tar   50%  1.0 MB/s  0:00:02  PID 4711"
    assert cells(shorten("文書の一覧と報告書", 8, "…")) == 7


def test_a_terminal_that_lacks_characters_gets_escapes_that_fit():
    buffer = io.BytesIO()
    terminal = io.TextIOWrapper(buffer, encoding="ascii", errors="backslashreplace")
    line, clock = status_line(terminal)
    progress = ProgressBar("文書の一覧と報告書の控え".encode() * 3, line)
    for second in range(3):
        clock.now = second
        progress.update(second * 1_000_000, 4_000_000)
    terminal.flush()
    drawn = buffer.getvalue().decode("ascii")
    assert r"\u6587" in drawn
    assert "..." in drawn
    assert all(len(text) <= 77 for text in drawn.replace("\x1b[K", "").split("\r"))


def retry(number: int, wait_s: float, lasting_s: float, session: int = 0) -> Retrying:
    return Retrying(session, "h:1 is busy", "again", number, 10, wait_s, lasting_s)


def told_at(*moments: float, wait_s: float = 0.0) -> str:
    terminal = Terminal()
    line, clock = status_line(terminal)
    for number, moment in enumerate(moments, 1):
        clock.now = moment
        line(retry(number, wait_s, moment))
    line(RetryEnded(0))
    line(RetryEnded(0))
    return terminal.getvalue()


def test_a_server_busy_for_less_than_a_second_is_not_told():
    assert told_at(0.1, 0.3, 0.9) == ""


def test_a_server_busy_for_longer_is_one_line_that_is_taken_away():
    first, second = "\rfsget: h:1 is busy, asking again (2 of 10)", "\rfsget: h:1 is busy, asking again (3 of 10)"
    assert told_at(0.7, 1.0, 2.5) == f"{first}\x1b[K{second}\x1b[K\r\x1b[K"


def test_a_wait_is_told_before_it_and_counted_down_until_the_answer():
    terminal = Terminal()
    line, clock = status_line(terminal)
    line(retry(6, 1.8, 4.0))
    for now in (0.5, 1.0, 1.5, 2.0):
        clock.now = now
        line.tick()
    seconds = re.findall(r"asking again( in \d s)? \(6 of 10\)", terminal.getvalue())
    assert seconds == [" in 2 s", " in 1 s", ""]
    line(RetryEnded(0))
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_an_answer_that_does_not_come_is_told_after_a_second_although_the_wait_was_short():
    terminal = Terminal()
    line, clock = status_line(terminal)
    line(retry(1, 0.1, 0.0))
    clock.now = 0.9
    line.tick()
    assert terminal.getvalue() == ""
    clock.now = 1.0
    line.tick()
    assert terminal.getvalue() == "\rfsget: h:1 is busy, asking again (1 of 10)\x1b[K"


def test_the_bar_gives_way_to_the_notice_while_nothing_comes_and_is_shown_again_after_it():
    terminal = Terminal()
    line, clock = status_line(terminal)
    progress = ProgressBar(b"f", line)

    def last() -> str:
        return terminal.getvalue().rpartition("\r")[2]

    for second in range(3):
        clock.now = second
        progress.update(second, 4)
    line(retry(2, 3.0, 5.0, session=1))
    assert last().startswith("f  [")  # another connection may still get something
    clock.now = 2.6
    line.tick()
    assert last() == "fsget: h:1 is busy, asking again in 3 s (2 of 10)\x1b[K"
    line(retry(3, 1.0, 5.0, session=2))
    assert last() == "fsget: h:1 is busy, asking again in 1 s (3 of 10); 1 other connection waits\x1b[K"
    clock.now = 2.7
    progress.update(3, 4)
    assert last().startswith("f  [")
    line(RetryEnded(1))
    line(RetryEnded(2))
    progress.finish()
    assert last().startswith("f  [")
    assert last().endswith("\n")


def test_what_a_connection_waited_for_is_not_told_once_the_others_have_fetched_the_rest():
    terminal = Terminal()
    line, clock = status_line(terminal)
    progress = ProgressBar(b"f", line)
    for second in range(3):
        clock.now = second
        progress.update(second, 4)
    line(retry(2, 1.0, 5.0))
    progress.update(4, 4)
    progress.finish()
    clock.now = 60.0
    line.tick()
    assert terminal.getvalue().endswith("\n")
    assert "asking" not in terminal.getvalue()


def test_other_lines_do_not_meet_the_status_line(capfd):
    with open(1, "w", encoding="utf-8", closefd=False) as terminal:
        line, _ = status_line(terminal)
        line(retry(6, 0.0, 4.0))
        complain("something else")
        line.close()
    assert capfd.readouterr().out == "\rfsget: h:1 is busy, asking again (6 of 10)\x1b[K\r\x1b[K"


def test_without_a_terminal_waiting_is_silent():
    line = StatusLine(None)
    line(retry(6, 0.0, 4.0))
    line(RetryEnded(0))
    progress = ProgressBar(b"f", line)
    progress.update(1, 2)
    progress.finish()
    line.close()
