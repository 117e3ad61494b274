"""A long list in bounded memory: what is beyond some thousands lies in a temporary file. Runs at the user's."""

from __future__ import annotations

import contextlib
import marshal
import tempfile
from typing import IO, TYPE_CHECKING, Any, Self

from forkserver.client.display import count
from forkserver.client.outcome import Exit, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_IN_MEMORY = 20_000


class Spool:
    """Tuples of bytes, text, numbers and None, in the order they were added. Raises Failure (a full disk)."""

    def __init__(self) -> None:
        self._first: list[tuple[Any, ...]] = []
        self._rest: IO[bytes] | None = None
        self._rest_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._rest is not None:
            with contextlib.suppress(OSError):  # what is still to be written is of no use any more
                self._rest.close()

    def __len__(self) -> int:
        return len(self._first) + self._rest_count

    def add(self, values: tuple[Any, ...]) -> None:
        """Append one."""
        if len(self._first) < _MOST_IN_MEMORY:
            self._first.append(values)
            return
        try:
            if self._rest is None:
                self._rest = tempfile.TemporaryFile()  # noqa: SIM115 - it is kept open
            marshal.dump(values, self._rest)
        except OSError as error:
            raise _failure(len(self), error) from error
        self._rest_count += 1

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """All that were added, once: nothing may be added any more."""
        yield from self._first
        if self._rest is not None:
            try:
                self._rest.seek(0)  # writes what was not yet written
            except OSError as error:
                raise _failure(len(self), error) from error
            for _ in range(self._rest_count):
                yield marshal.load(self._rest)  # noqa: S302 - what we have written ourselves, into a file without a name


def _failure(entries: int, error: OSError) -> Failure:
    where = f"in the directory for temporary files ({error.strerror}); set TMPDIR to one with more space"
    return Failure(
        Exit.LOCAL_DISK, "local-disk", f"the listing, {count(entries)} entries until now, finds no place {where}"
    )
