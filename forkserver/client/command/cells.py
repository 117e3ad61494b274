"""Measure and cut text by the cells of a terminal that the text takes. Runs in the client."""

from __future__ import annotations

_WIDE = frozenset("WF")
_WITHOUT_A_CELL = frozenset({"Mn", "Me", "Cf"})
_EMOJI_STYLE = "\ufe0f"
"""Turns the character before it into an emoji, which some terminals draw two cells wide."""


def cells(text: str) -> int:
    """Return how many cells of a terminal the printable ``text`` takes at most."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    import unicodedata  # noqa: PLC0415 - most names are ASCII, and all runs would pay for it

    if character == _EMOJI_STYLE:
        return 1
    if unicodedata.category(character) in _WITHOUT_A_CELL:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def shorten(text: str, room: int, ellipsis: str) -> str:
    """Return ``text``, cut in its middle if it takes more than ``room`` cells; ``ellipsis`` replaces the middle."""
    if cells(text) <= room:
        return text
    left = room - cells(ellipsis)
    if left <= 0:
        return _beginning(ellipsis, room)
    head = _beginning(text, (left + 1) // 2)
    tail = _beginning(text[::-1], left - cells(head))[::-1]
    return head + ellipsis + tail


def _beginning(text: str, room: int) -> str:
    for length, character in enumerate(text):
        room -= _cells_of(character)
        if room < 0:
            return text[:length]
    return text
