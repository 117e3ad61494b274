"""Match names with patterns as a shell does, on bytes. Runs in the client.

``*`` matches any bytes but a slash, ``?`` one such byte, ``[a-z]`` a byte of a set, ``[!a-z]`` a byte outside the set,
and ``**`` as a whole component any number of components. No wildcard matches a dot at the beginning of a component. A
set without an end, and a backslash, match themselves.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_WILDCARD = re.compile(rb"[*?]|\[(!?)(\]?[^\]]*)\]")
_TOKEN = re.compile(_WILDCARD.pattern + b"|.", re.DOTALL)
_RANGE = re.compile(rb"(.)(?:-(.))?", re.DOTALL)
"""A member of a set: a byte, or the first and the last byte of a range."""


def is_pattern(name: bytes) -> bool:
    """Return whether ``name`` contains a wildcard."""
    return _WILDCARD.search(name) is not None


def is_everything(pattern: bytes) -> bool:
    """Return whether ``pattern`` matches every file beneath its ``fixed_part``, except for hidden files."""
    return pattern in (b"*", b"**", b"**/*")


def fixed_part(pattern: bytes) -> tuple[bytes, bool]:
    """Return the directory that contains everything that ``pattern`` can match, without a slash at the end.

    The second value tells whether the pattern can match paths in subdirectories.
    """
    components = pattern.split(b"/")
    fixed = next(index for index, component in enumerate(components) if is_pattern(component))
    return b"/".join(components[:fixed]), fixed < len(components) - 1 or components[fixed] == b"**"


def with_parents(path: bytes) -> Iterator[bytes]:
    """Yield ``path``, then each directory that contains ``path``. ``path`` has no slash at either end."""
    while path:
        yield path
        path = path.rpartition(b"/")[0]


def compile_path(pattern: bytes, *, dots: bool = False) -> re.Pattern[bytes]:
    """Return a regular expression whose ``fullmatch`` matches the paths that ``pattern`` matches.

    ``dots``: a wildcard matches a dot at the beginning of a component, too.
    """
    visible = b"" if dots else rb"(?!\.)"
    parts: list[bytes] = []
    components = pattern.split(b"/")
    last = len(components) - 1
    for index, component in enumerate(components):
        if component == b"**":
            any_directories = b"(?:" + visible + b"[^/]+/)*"
            parts.append(any_directories if index < last else any_directories + visible + b"[^/]+")
        else:
            if _WILDCARD.match(component):
                parts.append(visible)
            parts.append(_TOKEN.sub(_translated, component) + (b"/" if index < last else b""))
    return re.compile(b"".join(parts), re.DOTALL)


class Filter:
    """Wants names beneath a directory that match an ``include``, if there is one, and no ``exclude``.

    A pattern without a slash is matched with the last component of a path, a pattern with a slash with the whole path
    beneath the directory. Everything in an excluded directory is excluded.
    """

    def __init__(self, include: tuple[bytes, ...] = (), exclude: tuple[bytes, ...] = ()) -> None:
        self._include = [_matcher(pattern) for pattern in include]
        self._exclude = [_matcher(pattern) for pattern in exclude]
        self.takes_all = not include and not exclude

    def wants_file(self, path: bytes) -> bool:
        """Return whether the file is wanted. ``path`` is relative, without a slash at either end."""
        return (not self._include or _any(self._include, path)) and not self._excludes(path)

    def wants_directory(self, path: bytes) -> bool:
        """Return whether the directory is wanted for itself. With an ``include``, only its files are wanted."""
        return not self._include and not self._excludes(path)

    def _excludes(self, path: bytes) -> bool:
        return bool(self._exclude) and any(_any(self._exclude, each) for each in with_parents(path))


_Matcher = tuple[bool, re.Pattern[bytes]]


def _matcher(pattern: bytes) -> _Matcher:
    pattern = pattern.removesuffix(b"/")
    return b"/" in pattern, compile_path(pattern.removeprefix(b"/"), dots=True)


def _any(matchers: list[_Matcher], path: bytes) -> bool:
    last = path.rpartition(b"/")[2]
    return any(expression.fullmatch(path if whole else last) for whole, expression in matchers)


def _translated(token: re.Match[bytes]) -> bytes:
    if token[2] is not None:
        return _set(token[1], token[2])
    return {b"*": b"[^/]*", b"?": b"[^/]"}.get(token[0]) or re.escape(token[0])


def _set(negation: bytes, members: bytes) -> bytes:
    ranges = [
        re.escape(first) + b"-" + re.escape(last or first)
        for first, last in _RANGE.findall(members)
        if first <= (last or first)  # a range from high to low is empty
    ]
    if negation:
        return b"[^/" + b"".join(ranges) + b"]"
    # No set matches a slash, not even a set that contains a slash.
    return b"(?!/)[" + b"".join(ranges) + b"]" if ranges else b"(?!)"
