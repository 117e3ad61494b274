"""Patterns of names, as a shell has them, over bytes. Runs at the user's.

``*`` stands for any bytes but a slash, ``?`` for one, ``[a-z]`` and ``[!a-z]`` for one of or none of a set, ``**`` as a
whole component for any number of components. None of them stands for a dot at the beginning of a component. A set
without an end, and a backslash, stand for themselves.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile(rb"[*?]|\[!?\]?[^\]]*\]")
_SET = re.compile(rb"\[(!?)(\]?[^\]]*)\]")


def is_pattern(name: bytes) -> bool:
    """Whether anything in ``name`` stands for something else."""
    return _SPECIAL.search(name) is not None


def is_everything(pattern: bytes) -> bool:
    """Whether it is one of those that take every file beneath the ``fixed_part``, but for hidden ones."""
    return pattern in (b"*", b"**", b"**/*")


def fixed_part(pattern: bytes) -> tuple[bytes, bool]:
    """The directory, without its last slash, beneath which everything lies that ``pattern`` can match.

    The second value tells whether it lies deeper than directly in it.
    """
    components = pattern.split(b"/")
    fixed = next(index for index, component in enumerate(components) if is_pattern(component))
    return b"/".join(components[:fixed]), fixed < len(components) - 1 or components[fixed] == b"**"


def compile_path(pattern: bytes, *, dots: bool = False) -> re.Pattern[bytes]:
    """A regular expression whose ``fullmatch`` takes whole paths.

    ``dots``: a component may begin with a dot where the pattern's does not.
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
            if _SPECIAL.match(component):
                parts.append(visible)
            parts.append(_component(component) + (b"/" if index < last else b""))
    return re.compile(b"".join(parts), re.DOTALL)


class Filter:
    """Which names beneath a directory are wanted: those that an ``include`` takes, if there is one, and no ``exclude``.

    A pattern without a slash is for the last component, wherever it is; one with a slash for the whole path beneath the
    directory. What lies in an excluded directory is excluded.
    """

    def __init__(self, include: tuple[bytes, ...] = (), exclude: tuple[bytes, ...] = ()) -> None:
        self._include = [_matcher(pattern) for pattern in include]
        self._exclude = [_matcher(pattern) for pattern in exclude]
        self.takes_all = not include and not exclude

    def wants_file(self, path: bytes) -> bool:
        """``path`` is relative to the directory, and has no slash before or after."""
        return (not self._include or _any(self._include, path)) and not self._excludes(path)

    def wants_directory(self, path: bytes) -> bool:
        """Whether to keep a directory for itself: where files are chosen one by one, only for what is in it."""
        return not self._include and not self._excludes(path)

    def _excludes(self, path: bytes) -> bool:
        if not self._exclude:
            return False
        components = path.split(b"/")
        return any(_any(self._exclude, b"/".join(components[: end + 1])) for end in range(len(components)))


_Matcher = tuple[bool, re.Pattern[bytes]]


def _matcher(pattern: bytes) -> _Matcher:
    pattern = pattern.removesuffix(b"/")
    return b"/" in pattern, compile_path(pattern.removeprefix(b"/"), dots=True)


def _any(matchers: list[_Matcher], path: bytes) -> bool:
    last = path.rpartition(b"/")[2]
    return any(expression.fullmatch(path if whole else last) for whole, expression in matchers)


def _component(component: bytes) -> bytes:
    out: list[bytes] = []
    position = 0
    while position < len(component):
        char = component[position : position + 1]
        found = _SET.match(component, position) if char == b"[" else None
        if found:
            out.append(_set(found[1], found[2]))
            position = found.end()
            continue
        out.append({b"*": b"[^/]*", b"?": b"[^/]"}.get(char) or re.escape(char))
        position += 1
    return b"".join(out)


def _set(negation: bytes, members: bytes) -> bytes:
    ranges: list[bytes] = []
    position = 0
    while position < len(members):
        first = members[position : position + 1]
        last = first
        if members[position + 1 : position + 2] == b"-" and position + 2 < len(members):
            last = members[position + 2 : position + 3]
            position += 2
        position += 1
        if first <= last:  # the other way round it holds nothing
            ranges.append(re.escape(first) + b"-" + re.escape(last))
    if negation:
        return b"[^/" + b"".join(ranges) + b"]"
    # A slash is never matched, not even by a set that has one.
    return b"(?!/)[" + b"".join(ranges) + b"]" if ranges else b"(?!)"
