"""A long list in bounded memory: what is beyond some megabytes lies in a temporary file. Runs at the user's."""

from __future__ import annotations

import marshal
import tempfile
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_MEMORY_BYTES = 1 << 22


class Spool:
    """Tuples of bytes, text, numbers and None, in the order they were added. Raises OSError (a full disk)."""

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed by `close`
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._count

    def add(self, values: tuple[Any, ...]) -> None:
        """Append one."""
        self._file.write(marshal.dumps(values))
        self._count += 1

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All that were added, once: nothing may be added any more."""
        self._file.seek(0)
        for _ in range(self._count):
            yield marshal.load(self._file)  # noqa: S302 - what we have written ourselves, into a file without a name
