"""Waiting: between retries, and in front of a progress line."""

from __future__ import annotations

import io

from forkserver.client.connection import FIRST_WAIT_S, LONGEST_WAIT_S, backoff
from forkserver.client.progress import Progress


def test_waits_double_up_to_a_cap_and_differ_by_chance():
    waits = list(backoff(1000))
    assert len(waits) == 1000
    assert FIRST_WAIT_S / 2 <= waits[0] <= FIRST_WAIT_S
    assert min(waits[10:]) >= LONGEST_WAIT_S / 2
    assert max(waits) <= LONGEST_WAIT_S
    assert len(set(waits)) > 900


def test_without_retries_there_is_no_wait():
    assert list(backoff(0)) == []


def shown_at(*moments: float) -> str:
    terminal = io.StringIO()
    clock = iter([0.0, *moments])
    progress = Progress(b"big\x1b.log", terminal, lambda: next(clock))
    for moment in moments:
        progress(int(moment * 1_000_000), 4_000_000)
    progress.clear()
    return terminal.getvalue()


def test_what_is_done_within_a_second_shows_no_progress():
    assert shown_at(0.1, 0.9) == ""


def test_a_longer_transfer_is_told_five_times_a_second_at_most():
    shown = shown_at(0.5, 1.0, 1.1, 2.0)
    assert shown.count("left") == 2
    # A terminal that is none has 80 columns.
    assert "\rbig\\x1b.log:  25 %, 1,000,000 of 4,000,000 bytes, 1.0 MB/s, 0:03 left" in shown
    assert "\rbig\\x1b.log:  50 %, 2,000,000 of 4,000,000 bytes, 1.0 MB/s, 0:02 left" in shown


def test_the_line_is_taken_away_in_the_end():
    shown = shown_at(2.0)
    assert shown.endswith("\r")
    assert shown.split("\r")[-2].strip() == ""
