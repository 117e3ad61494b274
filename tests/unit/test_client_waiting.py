"""Waiting: between retries, and in front of a progress bar."""

from __future__ import annotations

import io

from forkserver.client.command.progress import Progress, Waiting
from forkserver.client.outcome import Served
from forkserver.client.remote.patience import FIRST_WAIT_S, LONGEST_WAIT_S, backoff


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


def shown_at(*moments: float, before: int = 0) -> str:
    terminal = Terminal()
    now = [0.0]
    progress = Progress(b"big\x1b.log", terminal, lambda: [Served(4711, "1.0")], lambda: now[0])
    progress(before, 4_000_000 + before)
    for moment in moments:
        now[0] = moment
        progress(before + int(moment * 1_000_000), 4_000_000 + before)
    progress.clear()
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


def test_the_terminal_gets_its_cursor_and_a_fresh_line_back():
    assert shown_at(2.0).endswith("\x1b[?25h\n")


def test_how_much_there_is_may_be_known_only_later():
    terminal = Terminal()
    now = [0.0]
    progress = Progress(b"tree", terminal, lambda: [Served(4711, "1.0")], lambda: now[0])
    for moment, size in ((0.5, None), (2.0, None), (3.0, None), (4.0, 10_000_000), (5.0, 10_000_000)):
        now[0] = moment
        progress.at(b"tree/name", int(moment * 1_000_000), size)
    progress.clear()
    before, after = terminal.getvalue().split("\r\x1b[K")
    assert "1.0 MB/s  2.0 MB so far  PID 4711" in before
    assert "%" not in before
    assert "tree/name" in after
    assert " 50%" in after
    assert "1.0 MB/s  0:00:05  PID 4711" in after


def told_at(*moments: float) -> str:
    terminal = Terminal()
    now = [5.0]
    waiting = Waiting(terminal, lambda: now[0])
    waiting.begin()
    for number, moment in enumerate(moments, 1):
        now[0] = 5.0 + moment
        waiting.again(f"h:1 is busy, asking again ({number} of 10)")
    waiting.clear()
    waiting.clear()
    return terminal.getvalue()


def test_a_server_busy_for_less_than_a_second_is_not_told():
    assert told_at(0.1, 0.3, 0.9) == ""


def test_a_server_busy_for_longer_is_one_line_that_is_taken_away():
    first, second = "\rfsget: h:1 is busy, asking again (2 of 10)", "\rfsget: h:1 is busy, asking again (3 of 10)"
    assert told_at(0.7, 1.0, 2.5) == f"{first}\x1b[K{second}\x1b[K\r\x1b[K"


def test_a_line_about_waiting_never_wraps():
    terminal = Terminal()
    waiting = Waiting(terminal, iter([0.0, 0.0, 2.0]).__next__)
    waiting.begin()
    waiting.again("x" * 200)
    assert len(terminal.getvalue()) == len("\r\x1b[K") + 79


def test_without_a_terminal_waiting_is_silent():
    waiting = Waiting(None, iter([0.0, 0.0, 2.0]).__next__)
    waiting.begin()
    waiting.again("x")
    waiting.clear()
