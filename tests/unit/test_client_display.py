"""What people get to see."""

from __future__ import annotations

import unicodedata

import pytest

from forkserver.client.display import escape, local_time, permissions
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
    assert local_time("9999999999999999999.000000000") == "@9999999999999999999"


def test_permissions_look_as_in_ls():
    assert permissions("file", "644") == "-rw-r--r--"
    assert permissions("dir", "1777") == "drwxrwxrwt"


@pytest.mark.parametrize("word", ["", "8", "-1", "77777", "0x1"])
def test_what_is_no_mode_is_refused(word):
    with pytest.raises(ProtocolError):
        permissions("file", word)
