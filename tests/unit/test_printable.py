"""How a character is spelled that may not be shown as it is, and which ones each place shows."""

from __future__ import annotations

import pytest

from forkserver.client import display
from forkserver.front import terminal
from forkserver.protocol.printable import escape_char


@pytest.mark.parametrize(
    ("char", "escape"),
    [
        ('"', r"\""),
        ("\\", r"\\"),
        ("\n", r"\x0a"),
        ("ü", r"\xfc"),
        ("\u202e", r"\u202e"),
        ("\udcff", r"\udcff"),
        ("\U0001f600", r"\U0001f600"),
    ],
)
def test_a_character_is_spelled_by_its_code_or_after_a_backslash(char, escape):
    assert escape_char(char) == escape


@pytest.mark.parametrize(
    ("text", "to_the_operator", "to_the_user"),
    [
        ("Übergröße 文書", "Übergröße 文書", "Übergröße 文書"),
        ('"a\\b"', '"a\\\\b"', '"a\\\\b"'),
        ("a\tb\r\n", r"a\tb\r\n", r"a\x09b\x0d\x0a"),
        ("\x1b[2J\x9b", r"\x1b[2J\x9b", r"\x1b[2J\x9b"),
        ("\udcff", r"\udcff", r"\xff"),
        ("\u202e\u2028", r"\u202e\u2028", r"\u202e\u2028"),
        ("\u3000\u200d", r"\u3000\u200d", "\u3000\u200d"),
    ],
)
def test_a_terminal_keeps_its_letters_and_gets_nothing_to_obey(text, to_the_operator, to_the_user):
    assert terminal.escape(text) == to_the_operator
    assert display.escape(text) == to_the_user
