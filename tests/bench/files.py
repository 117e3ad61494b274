"""The directory that is served: every byte known, so that every byte of a reply can be checked."""

from __future__ import annotations

import os
from pathlib import Path

_PERIOD = 251  # as PATTERN_PERIOD in c/reply.h
_BLOCK = bytes(range(_PERIOD)) * 4096
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL, MEDIUM, SLOW, BIG, TREE = "k1", "m1", "slow", "big", "tree"
SIZES = {SMALL: KIB, MEDIUM: MIB, SLOW: MIB}


def make(root: Path) -> None:
    """The small files. Everybody may read them: most servers drop their powers."""
    root.mkdir()
    for name, size in SIZES.items():
        write(root / name, size)


def write(path: Path, size_bytes: int) -> None:
    """A file of the pattern."""
    with path.open("wb") as file:
        left = size_bytes
        while left > 0:
            left -= file.write(_BLOCK[: min(left, len(_BLOCK))])
    path.chmod(0o644)


def make_tree(path: Path, count: int, size_bytes: int) -> list[str]:
    """A tree of files of different content, a hundred a directory; returns their names beneath ``path``."""
    names = [f"d{number // 100:03}/f{number:05}" for number in range(count)]
    for number, name in enumerate(names):
        if number % 100 == 0:
            (path / name).parent.mkdir(parents=True)
        with open(path / name, "wb") as file:
            file.write(number.to_bytes(8, "big") + os.urandom(size_bytes - 8))
    return names
