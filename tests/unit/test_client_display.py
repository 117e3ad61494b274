"""What people get to see."""

from __future__ import annotations

import unicodedata

import pytest

from forkserver.client.display import counted, escape, local_time, processes, rate
from forkserver.client.outcome import Served
from forkserver.client.remote.metadata import Metadata, read_metadata
from forkserver.protocol.messages import ProtocolError


def test_nothing_a_terminal_obeys_is_left_in_a_name():
    for code in range(0x30000):
        shown = escape(chr(code))
        assert not any(unicodedata.category(char) in ("Cc", "Zl", "Zp") for char in shown)
        assert not any(unicodedata.bidirectional(char) in BIDI_CONTROLS for char in shown)


BIDI_CONTROLS = {"LRE", "LRO", "RLE", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"tax law.pdf", "tax law.pdf"),
        ("Übergröße-文書.pdf".encode(), "Übergröße-文書.pdf"),
        (b"\x1b[2J\r\n\x7f", r"\x1b[2J\x0d\x0a\x7f"),
        (b"\xff\xc3", r"\xff\xc3"),
        ("a\u202eb\u2066\u200f\u061c\u2028".encode(), r"a\u202eb\u2066\u200f\u061c\u2028"),
        (b"back\\slash", r"back\\slash"),
    ],
)
def test_a_name_is_shown_as_it_is_or_made_visible(name, shown):
    assert escape(name) == shown


def test_a_time_outside_the_calendar_is_shown_in_seconds():
    assert local_time(9999999999999999999_000000000) == "@9999999999999999999"


def test_permissions_look_as_in_ls():
    assert directory("1777").permissions == "drwxrwxrwt"
    assert directory("644")._replace(kind="file").permissions == "-rw-r--r--"


def directory(mode: str) -> Metadata:
    return read_metadata("dir", {"mtime": "0.000000000", "mode": mode})


@pytest.mark.parametrize("word", ["", "8", "-1", "77777", "0x1"])
def test_what_is_no_mode_is_refused(word):
    with pytest.raises(ProtocolError):
        directory(word)


def test_a_number_has_its_noun_in_the_right_number():
    assert [counted(number, "file") for number in (0, 1, 2, 1204)] == ["0 files", "1 file", "2 files", "1,204 files"]
    assert [counted(number, "directory", "directories") for number in (1, 2)] == ["1 directory", "2 directories"]


def test_of_several_processes_the_rest_are_counted():
    served = [Served(pid, "1.0") for pid in range(1, 5)]
    assert processes(served, most=2) == "PIDs 1, 2 and 2 others"
    assert processes(served, most=3) == "PIDs 1, 2, 3 and 1 other"


def test_a_rate_has_a_unit_in_which_it_is_more_than_nothing():
    for bytes_a_second, shown in (
        (0, "0 B/s"),
        (812.4, "812 B/s"),
        (999.6, "1.0 kB/s"),
        (38_600, "38.6 kB/s"),
        (999_960, "1.0 MB/s"),
        (1_234_567_890, "1,234.6 MB/s"),
    ):
        assert rate(bytes_a_second) == shown
