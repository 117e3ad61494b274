"""Match names with patterns as a shell does, on bytes. Runs in the client.

``*`` matches any bytes but a slash, ``?`` one such byte, ``[a-z]`` a byte of a set, ``[!a-z]`` a byte outside the set,
and ``**`` as a whole component any number of components. No wildcard matches a dot at the beginning of a component. A
set without an end, and a backslash, match themselves.
"""

from __future__ import annotations

import re

_SPECIAL = re.compile(rb"[*?]|\[!?\]?[^\]]*\]")
_SET = re.compile(rb"\[(!?)(\]?[^\]]*)\]")


def is_pattern(name: bytes) -> bool:
    """Return whether ``name`` contains a wildcard."""
    return _SPECIAL.search(name) is not None


def is_everything(pattern: bytes) -> bool:
    """Return whether ``pattern`` matches every file beneath its ``fixed_part``, apart from hidden files."""
    return pattern in (b"*", b"**", b"**/*")


def fixed_part(pattern: bytes) -> tuple[bytes, bool]:
    """Return the directory that contains everything that ``pattern`` can match, without its last slash.

    The second value tells whether the pattern can match paths in subdirectories.
    """
    components = pattern.split(b"/")
    fixed = next(index for index, component in enumerate(components) if is_pattern(component))
    return b"/".join(components[:fixed]), fixed < len(components) - 1 or components[fixed] == b"**"


def compile_path(pattern: bytes, *, dots: bool = False) -> re.Pattern[bytes]:
    """Return a regular expression whose ``fullmatch`` matches whole paths.

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
            if _SPECIAL.match(component):
                parts.append(visible)
            parts.append(_component(component) + (b"/" if index < last else b""))
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
        if first <= last:  # a range from high to low is empty
            ranges.append(re.escape(first) + b"-" + re.escape(last))
    if negation:
        return b"[^/" + b"".join(ranges) + b"]"
    # No set matches a slash, not even a set that contains a slash.
    return b"(?!/)[" + b"".join(ranges) + b"]" if ranges else b"(?!)"
