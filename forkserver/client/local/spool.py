"""Keep a long list in bounded memory: a temporary file has all but the first 20,000 values. Runs in the client."""

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
    """Values in the order in which they were added. Methods raise Failure if the disk is full.

    ``pack`` turns a value into tuples, bytes, text, numbers and None, for the file, and ``unpack`` turns these back.
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
        """Remove all values."""
        if self._rest is not None:
            with contextlib.suppress(OSError):  # closing writes buffered values, which nobody needs any more
                self._rest.close()
        self._first.clear()
        self._rest = None
        self._rest_count = 0

    def __len__(self) -> int:
        return len(self._first) + self._rest_count

    def add(self, value: _Value) -> None:
        """Append ``value``."""
        if len(self._first) < _MOST_IN_MEMORY:
            self._first.append(value)
            return
        try:
            if self._rest is None:
                import tempfile  # noqa: PLC0415 - most lists are short, and tempfile takes long to import

                self._rest = tempfile.TemporaryFile()  # noqa: SIM115 - the spool keeps the file open
            marshal.dump(self._pack(value), self._rest)
        except OSError as error:
            raise no_place(len(self), error) from error
        self._rest_count += 1

    def __iter__(self) -> Iterator[_Value]:
        """Yield all values, once. No value may be added afterwards."""
        yield from self._first
        if self._rest is not None:
            try:
                self._rest.seek(0)  # writes buffered values, too
            except OSError as error:
                raise no_place(len(self), error) from error
            for _ in range(self._rest_count):
                yield self._unpack(marshal.load(self._rest))  # noqa: S302 - only ``add`` has written to the file, which has no name


def no_place(entries: int, error: OSError) -> Failure:
    """Return the Failure for ``error`` of a temporary file. A listing had ``entries`` entries until now."""
    where = f"in the directory for temporary files ({error.strerror}); set TMPDIR to one with more space"
    return Failure(
        Exit.LOCAL_DISK, Word.LOCAL_DISK, f"the listing, {count(entries)} entries until now, finds no place {where}"
    )
