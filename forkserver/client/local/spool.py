"""A long list in bounded memory: what is beyond some thousands lies in a temporary file. Runs at the user's."""

from __future__ import annotations

import contextlib
import marshal
from typing import IO, TYPE_CHECKING, Any, Generic, Self, TypeVar

from forkserver.client.display import count
from forkserver.client.outcome import Exit, Failure, Word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_Value = TypeVar("_Value")
_MOST_IN_MEMORY = 20_000


class Spool(Generic[_Value]):
    """Values in the order they were added. Raises Failure (a full disk).

    ``pack`` makes a value of tuples, bytes, text, numbers and None of one that is to be written, and ``unpack`` undoes
    that.
    """

    def __init__(self, pack: Callable[[_Value], Any], unpack: Callable[[Any], _Value]) -> None:
        self._pack = pack
        self._unpack = unpack
        self._first: list[_Value] = []
        self._rest: IO[bytes] | None = None
        self._rest_count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take back all that were added."""
        if self._rest is not None:
            with contextlib.suppress(OSError):  # what is still to be written is of no use any more
                self._rest.close()
        self._first.clear()
        self._rest = None
        self._rest_count = 0

    def __len__(self) -> int:
        return len(self._first) + self._rest_count

    def add(self, value: _Value) -> None:
        """Append one."""
        if len(self._first) < _MOST_IN_MEMORY:
            self._first.append(value)
            return
        try:
            if self._rest is None:
                import tempfile  # noqa: PLC0415 - most lists are short, and it takes long

                self._rest = tempfile.TemporaryFile()  # noqa: SIM115 - it is kept open
            marshal.dump(self._pack(value), self._rest)
        except OSError as error:
            raise no_place(len(self), error) from error
        self._rest_count += 1

    def __iter__(self) -> Iterator[_Value]:
        """All that were added, once: nothing may be added any more."""
        yield from self._first
        if self._rest is not None:
            try:
                self._rest.seek(0)  # writes what was not yet written
            except OSError as error:
                raise no_place(len(self), error) from error
            for _ in range(self._rest_count):
                yield self._unpack(marshal.load(self._rest))  # noqa: S302 - what we have written ourselves, into a file without a name


def no_place(entries: int, error: OSError) -> Failure:
    """Return the failure that ``error`` is: ``entries`` of a listing were kept in a temporary file until now."""
    where = f"in the directory for temporary files ({error.strerror}); set TMPDIR to one with more space"
    return Failure(
        Exit.LOCAL_DISK, Word.LOCAL_DISK, f"the listing, {count(entries)} entries until now, finds no place {where}"
    )
